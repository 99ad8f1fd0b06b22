"""Every backend by its name; importing this loads no native library, using a backend does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from appliance.domain.models import BackendName
from appliance.engines.base import Backend
from appliance.engines.llama.backend import LlamaBackend
from appliance.engines.onnx.backend import OnnxBackend
from appliance.engines.trial import try_load


def all_backends(*, untried: bool = False) -> Mapping[str, Backend]:
    """The backends of this build, by the ``image`` of a template. ``untried``: those of a process that is the trial."""
    name = BackendName.LLAMA.value
    return {name: LlamaBackend(None if untried else partial(try_load, name)), BackendName.ONNX.value: OnnxBackend()}
