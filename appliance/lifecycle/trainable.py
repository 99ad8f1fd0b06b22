"""Which models can be fine-tuned here, and how: one table."""

from __future__ import annotations

from appliance.domain.errors import InvalidParameter, InvalidRequest
from appliance.domain.finetuning import SchemaType
from appliance.domain.models import Artifact, BackendName, Model, ModelType, Template
from appliance.domain.trainable import TRAINABLE_ARCHITECTURES, TRAINABLE_ENCODERS, untrainable
from appliance.domain.training import TrainingKind
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.remote import is_external

SCHEMA_OF = {
    TrainingKind.GENERATION: SchemaType.GENERATION,
    TrainingKind.RERANKING: SchemaType.RERANKING_QUESTIONS,
    TrainingKind.EMBEDDING: SchemaType.RERANKING_QUESTIONS,
}
_KIND_OF = {
    (BackendName.LLAMA.value, ModelType.COMPLETION): TrainingKind.GENERATION,
    (BackendName.LLAMA.value, ModelType.CHAT_COMPLETION): TrainingKind.GENERATION,
    (BackendName.LLAMA.value, ModelType.AGENT): TrainingKind.GENERATION,
    (BackendName.ONNX.value, ModelType.EMBEDDING): TrainingKind.EMBEDDING,
    (BackendName.ONNX.value, ModelType.RERANKING): TrainingKind.RERANKING,
}
_INTEGERS = frozenset({"I8", "U8"})
"""Of tensors: no training starts from them."""
TRAINABLE = (
    f"text models over GGUF weights of {', '.join(TRAINABLE_ARCHITECTURES)}; "
    f"embedding and reranking models over ONNX weights of {', '.join(TRAINABLE_ENCODERS)}"
)


def weights_of(directory: Directory, model: Model) -> Artifact:
    """The weights that a model names itself. Raises InvalidRequest, NotFound."""
    named = (model.creation_parameters or {}).get("weights")
    if is_external(model) or named is None:
        why = "it runs elsewhere" if is_external(model) else "it names no weights itself, only its deployments do"
        raise InvalidRequest(f"'{model.name}' cannot be fine-tuned: {why}. These can: {TRAINABLE}")
    return directory.artifact(str(named))


def kind_of(directory: Directory, model: Model) -> TrainingKind:
    """How the model is trained. Raises InvalidRequest that lists what can be."""
    weights = weights_of(directory, model)
    template: Template | None = directory.templates.get(model.model_template_id or "")
    kind = _KIND_OF.get((template.backend, model.model_type)) if template is not None else None
    card = weights.card
    if kind is TrainingKind.GENERATION:
        facts = map(card.extra.get, ("expert_count", "rope_scaling", "ssm_dt_b_c_rms"))
        against = untrainable(card.architecture, *facts)
        if against is not None:
            raise InvalidRequest(f"'{model.name}' cannot be fine-tuned: '{weights.name}' {against}")
    elif kind is None or card.architecture not in TRAINABLE_ENCODERS:
        what = f"{card.architecture} over {card.format.value} as {model.model_type.value}"
        raise InvalidRequest(f"'{model.name}' ({what}) cannot be fine-tuned. These can: {TRAINABLE}")
    elif integers := sorted(_INTEGERS & set((card.quantization or "").split("+"))):
        raise InvalidRequest(
            f"'{model.name}' cannot be fine-tuned: '{weights.name}' is quantized ({', '.join(integers)}); fine-tune "
            "the float32 export of the same model, and quantize the result: python -m appliance.encoders FOLDER OUT"
        )
    if (model.creation_parameters or {}).get("adapter"):
        raise InvalidRequest(
            f"'{model.name}' is an adapter over '{weights.name}' already; fine-tune the model that it was made from, "
            "with the examples of both"
        )
    return kind


def check_schema(kind: TrainingKind, schema_type: SchemaType, what: str) -> None:
    """Raise InvalidParameter for a dataset that this kind of training cannot read."""
    wanted = SCHEMA_OF[kind]
    if schema_type is not wanted:
        raise InvalidParameter(
            f"{what} is a dataset of {schema_type.value}, and {kind.value} is trained on {wanted.value}",
            errors=[((what,), f"must be {wanted.value}")],
        )
