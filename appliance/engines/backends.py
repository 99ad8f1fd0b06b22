"""Every backend by its name; importing this loads no native library, using a backend does."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.domain.models import BackendName
from appliance.engines.base import Backend
from appliance.engines.llama.backend import LlamaBackend
from appliance.engines.onnx.backend import OnnxBackend


def all_backends() -> Mapping[str, Backend]:
    """The backends of this build, by the ``image`` of a template."""
    return {BackendName.LLAMA.value: LlamaBackend(), BackendName.ONNX.value: OnnxBackend()}
