"""Every backend by its name; importing this loads no native library, using a backend does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from appliance.domain.models import BackendName
from appliance.engines.base import Backend, EngineSpec, Trial
from appliance.engines.llama.backend import LlamaBackend
from appliance.engines.onnx.backend import OnnxBackend
from appliance.engines.trial import ChildTrial


def all_backends(*, untried: bool = False) -> Mapping[str, Backend]:
    """The backends of this build, by the ``image`` of a template. ``untried``: those of a process that is the trial."""
    llama = LlamaBackend(None if untried else _trial_of_llama)
    return {BackendName.LLAMA.value: llama, BackendName.ONNX.value: OnnxBackend()}


def _trial_of_llama(spec: EngineSpec, passed: Callable[[], None]) -> Trial:
    return ChildTrial(BackendName.LLAMA.value, spec, passed)
