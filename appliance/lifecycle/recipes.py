"""From records to something that can be loaded: template + parameters + artifact → ``Wanted``; or an upstream's model.

The one place that reads creation parameters, for the check when a deployment is made and for the load alike, so that
what was accepted is what is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from appliance.domain.errors import InvalidParameter, InvalidRequest, NotFound
from appliance.domain.models import Artifact, Deployment, Model, Parameters, Template
from appliance.engines.base import Backend, EngineSpec, Resources
from appliance.lifecycle import parameters, remote
from appliance.lifecycle.directory import Directory
from appliance.scheduler.resident import Wanted

DEFAULT_SLOTS = 10
CLIENTS_SHARDS = 4
"""What the official client for v3 sends as ``num_shards`` by itself, with ``gpus`` 0: nobody's wish."""
_MEMORY = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(Ki|Mi|Gi|Ti)?")
_UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


class Weights(Protocol):
    """Where an artifact's files are."""

    def path_of(self, artifact: Artifact) -> Path:
        """A file, or a folder of files under their own names."""


class Recipes:
    """Resolves deployments into engine specs."""

    def __init__(
        self, directory: Directory, backends: Mapping[str, Backend], weights: Weights, remote_backend: Backend
    ) -> None:
        self._directory = directory
        self._backends = backends
        self._weights = weights
        self._remote_backend = remote_backend

    def wanted(self, deployment: Deployment, model: Model) -> Wanted:
        """What the scheduler needs to serve the deployment.

        Raises InvalidRequest, WrongWeights, NotFound. Nothing is loaded and no native code runs.
        """
        vendor = deployment.vendor_configuration or {}
        template: Template | None = None
        backend = self._remote_backend
        if remote.is_external(model):
            slots = int(_resource(vendor, None, "per_worker", DEFAULT_SLOTS))
            spec: EngineSpec = remote.spec_of(deployment, model, self._directory.upstreams.values(), slots)
        else:
            template = self._template_of(model)
            backend = self._backends[template.backend]
            spec = self._spec(deployment, model, template)
        backend.check(spec)
        _check_gpus(vendor, backend.asks(spec))
        return Wanted(
            deployment_id=deployment.id,
            name=deployment.name,
            backend=backend,
            spec=spec,
            pinned=int(_resource(vendor, template, "min_workers", 0)) > 0,
            high_priority=bool(_resource(vendor, template, "high_priority", False)),
        )

    def check_model_parameters(self, template: Template, given: Parameters | None) -> None:
        """Refuse unknown names, wrong types and artifacts that do not exist; what is missing a deployment may add."""
        checked = parameters.check(
            template.creation_parameters, given or {}, where="model_creation_parameters", complete=False
        )
        for name in ("weights", "adapter"):
            if name in checked:
                self._artifact(name, str(checked[name]))

    def _template_of(self, model: Model) -> Template:
        template = self._directory.templates.get(model.model_template_id or "")
        if template is None:
            raise InvalidParameter(f"model '{model.name}' has no template; only models with one can run here")
        return template

    def _spec(self, deployment: Deployment, model: Model, template: Template) -> EngineSpec:
        merged = parameters.merge_creation_parameters(
            template.creation_parameters, model.creation_parameters, deployment.creation_parameters
        )
        if "weights" not in merged:
            raise InvalidParameter(f"template '{template.name}' declares no parameter 'weights', so nothing can load")
        artifact = self._artifact("weights", str(merged.pop("weights")))
        adapter = merged.pop("adapter", None)
        return EngineSpec(
            model_type=model.model_type,
            weights=self._weights.path_of(artifact),
            card=artifact.card,
            parameters=merged,
            slots=int(_resource(deployment.vendor_configuration or {}, template, "per_worker", DEFAULT_SLOTS)),
            adapter=self._weights.path_of(self._artifact("adapter", str(adapter))) if adapter else None,
            resources=_resources(deployment.vendor_configuration or {}, template),
        )

    def _artifact(self, parameter: str, name: str) -> Artifact:
        try:
            return self._directory.artifact(name)
        except NotFound as error:
            raise InvalidParameter(
                f"{parameter}: {error.message}", errors=[(("model_creation_parameters", parameter), error.message)]
            ) from error


def _resources(vendor: Mapping[str, object], template: Template) -> Resources:
    """What the deployment, else its template, asks of the machine."""
    memory = _text_resource(vendor, template, "memory")
    return Resources(
        gpus=int(_resource(vendor, template, "gpus", 0)),
        gpu_type=_text_resource(vendor, template, "gpu_type"),
        memory_bytes=memory_bytes(memory) if memory is not None else None,
        cpus=int(_resource(vendor, template, "cpus", 0)) or None,
    )


def _check_gpus(vendor: Mapping[str, object], asked: Resources) -> None:
    """Refuse a deployment that names a kind or a number of GPUs and does not ask for those. Raises InvalidRequest.

    The kind in a template says which GPUs, if a deployment asks for some.
    """
    kind, shards, gpus = vendor.get("gpu_type"), vendor.get("num_shards"), asked.gpus
    if kind is not None and not gpus:
        raise InvalidRequest(
            f"gpu_type is '{kind}' and no GPU is asked for; set gpus to how many, or leave gpu_type out"
        )
    if shards is None or shards == (gpus or 1) or (shards == CLIENTS_SHARDS and vendor.get("gpus") == 0):
        return
    split = (
        f"gpus is {gpus}: the layers are split over as many GPUs as are asked for" if gpus else "no GPU is asked for"
    )
    raise InvalidRequest(
        f"num_shards is {shards} and {split}; set gpus and num_shards to the same number, or leave num_shards out"
    )


def memory_bytes(text: str) -> int:
    """``8Gi`` in bytes. Raises InvalidParameter."""
    found = _MEMORY.fullmatch(text)
    if found is None:
        raise InvalidParameter(f"memory is {text!r:.64}; write a number with Ki, Mi, Gi or Ti, like 8Gi")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def _text_resource(vendor: Mapping[str, object], template: Template, name: str) -> str | None:
    of_template = template.vendor_configuration.get("endpoint_config") or {}
    return next((str(source[name]) for source in (vendor, of_template) if source.get(name) is not None), None)


def _resource(vendor: Mapping[str, object], template: Template | None, name: str, default: int | bool) -> int | bool:
    """A resource of the deployment, else of its template's endpoint configuration."""
    of_template = (template.vendor_configuration.get("endpoint_config") or {}) if template is not None else {}
    for source in (vendor, of_template):
        value = source.get(name)
        if isinstance(value, int):
            return value
    return default
