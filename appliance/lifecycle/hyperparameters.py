"""Hyperparameters as clients write them: free words and values, checked against one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from appliance.domain.errors import InvalidParameter
from appliance.domain.models import Parameter
from appliance.domain.trainable import TARGETS, against_half, unknown_target
from appliance.domain.training import OF_ADAPTERS, Hyperparameters, Precision, Schedule, TrainingKind
from appliance.lifecycle.parameters import coerce

WHERE = ("vendor_configuration", "hyperparameters")
MOST_MODULES = 64


class Setting(Struct, frozen=True, kw_only=True):
    """One hyperparameter."""

    name: str
    type: str
    """``int``, ``float``, ``bool``, or ``words``: a list, or words separated by commas."""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    may_be_null: bool = False
    description: str

    def read(self, value: Any) -> Any:
        """The value with its declared type, within its range. Raises InvalidParameter."""
        if value is None and self.may_be_null:
            return None
        if self.type == "words":
            return self._words(value)
        if isinstance(value, list | dict) or value is None:
            raise InvalidParameter(f"'{self.name}' must be {self.type}, got {value!r:.64}")
        found = coerce(Parameter(name=self.name, type=self.type, description=self.description), value)
        if self.choices and found not in self.choices:
            raise InvalidParameter(f"'{self.name}' is {found!r:.64}; it is one of {', '.join(self.choices)}")
        if self.low is not None and self.high is not None and not self.low <= float(found) <= self.high:
            raise InvalidParameter(
                f"'{self.name}' is {found!r:.64}; it goes from {self.low:,.12g} to {self.high:,.12g}"
            )
        return found

    def _words(self, value: Any) -> list[str]:
        words = value.split(",") if isinstance(value, str) else value
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            raise InvalidParameter(f"'{self.name}' must be a list of words, got {value!r:.64}")
        found = [word.strip() for word in words if word.strip()]
        if len(found) > MOST_MODULES or any(not word.replace("_", "").isalnum() or len(word) > 64 for word in found):
            raise InvalidParameter(f"'{self.name}' takes at most {MOST_MODULES} words of letters, digits and _")
        return found

    @property
    def range(self) -> str:
        """For the documentation."""
        if self.choices:
            return ", ".join(f"`{word}`" for word in self.choices)
        return f"{self.low:,.12g} to {self.high:,.12g}" if self.low is not None and self.high is not None else ""


SETTINGS = (
    Setting(name="epochs", type="float", low=0.01, high=1000, description="passes over the examples"),
    Setting(
        name="learning_rate",
        type="float",
        low=1e-8,
        high=1,
        may_be_null=True,
        description="at its highest; null: what suits the kind of training",
    ),
    Setting(
        name="schedule",
        type="str",
        choices=tuple(schedule.value for schedule in Schedule),
        description="how the learning rate goes after its warm-up",
    ),
    Setting(name="warmup_ratio", type="float", low=0, high=0.5, description="share of the steps in which it rises"),
    Setting(name="batch_size", type="int", low=1, high=4096, description="examples of one optimizer step"),
    Setting(
        name="micro_batch_size",
        type="int",
        low=1,
        high=4096,
        may_be_null=True,
        description="rows of one pass; gradients are added up over the passes of a step; null: what fits the memory",
    ),
    Setting(
        name="sequence_length",
        type="int",
        low=8,
        high=1_048_576,
        may_be_null=True,
        description="tokens of a row; null: the longest example, at most what the base was made for",
    ),
    Setting(name="packing", type="bool", description="several short examples share a row, blind to each other"),
    Setting(name="weight_decay", type="float", low=0, high=1, description="of the optimizer"),
    Setting(name="max_gradient_norm", type="float", low=0.001, high=1000, description="longer gradients are shortened"),
    Setting(name="rank", type="int", low=1, high=1024, description="of the LoRA adapter"),
    Setting(name="alpha", type="float", low=0.01, high=8192, description="scale of the LoRA adapter, over its rank"),
    Setting(name="dropout", type="float", low=0, high=0.9, description="in the LoRA adapter, while it is trained"),
    Setting(
        name="target_modules",
        type="words",
        description="layers that get an adapter; empty: all linear ones of the blocks",
    ),
    Setting(
        name="validation_fraction",
        type="float",
        low=0,
        high=0.9,
        description="share of the examples held out where no validation dataset is given; 0: none",
    ),
    Setting(
        name="early_stopping_patience",
        type="int",
        low=1,
        high=10_000,
        may_be_null=True,
        description="validations without a better loss before it ends; null: it runs to its end",
    ),
    Setting(
        name="validation_steps",
        type="int",
        low=1,
        high=1_000_000,
        may_be_null=True,
        description="steps between two validations; null: one an epoch",
    ),
    Setting(
        name="checkpoint_steps",
        type="int",
        low=1,
        high=1_000_000,
        may_be_null=True,
        description="steps between two checkpoints; null: about one a minute",
    ),
    Setting(name="seed", type="int", low=0, high=2**31 - 1, description="same seed, same training"),
    Setting(
        name="precision",
        type="str",
        choices=tuple(precision.value for precision in Precision),
        description="that the base computes in; `auto`: bfloat16 where the hardware has it; adapters are float32",
    ),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def check(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those given, with their declared types. Raises InvalidParameter naming every one that is unknown or wrong."""
    checked: dict[str, Any] = {}
    faults: list[tuple[tuple[str | int, ...], str]] = []
    for name, value in (given or {}).items():
        setting = _BY_NAME.get(name)
        if setting is None:
            known = ", ".join(sorted(_BY_NAME))
            faults.append(((*WHERE, name[:64]), f"unknown hyperparameter '{name[:64]}'; there are: {known}"))
            continue
        try:
            checked[name] = setting.read(value)
        except InvalidParameter as error:
            faults.append(((*WHERE, name), error.message))
    if faults:
        raise InvalidParameter("; ".join(message for _, message in faults), errors=faults)
    return checked


def check_kind(kind: TrainingKind, checked: Mapping[str, Any]) -> None:
    """Raise InvalidParameter naming those that mean nothing to this kind of training."""
    if kind is TrainingKind.GENERATION:
        return
    plain = Hyperparameters()
    foreign = [name for name in OF_ADAPTERS if _is_another(checked.get(name), getattr(plain, name))]
    if foreign:
        raise InvalidParameter(
            f"{', '.join(foreign)}: only adapters of text models have them, and an encoder is trained as a whole; "
            "leave them out",
            errors=[((*WHERE, name), "only adapters of text models have it") for name in foreign],
        )
    if checked.get("precision") == Precision.BFLOAT16:
        raise InvalidParameter(
            "precision: encoders are trained in float32, only text models in bfloat16; leave it out",
            errors=[((*WHERE, "precision"), "only text models are trained in bfloat16")],
        )


def check_precision(checked: Mapping[str, Any], base: str, architecture: str) -> None:
    """Raise InvalidParameter where 16 bits are asked for and would not do."""
    against = against_half(architecture)
    if checked.get("precision") == Precision.BFLOAT16 and against is not None:
        raise InvalidParameter(
            f"precision: '{base}' {against}",
            errors=[((*WHERE, "precision"), f"{architecture} is trained in float32 only")],
        )


def check_targets(checked: Mapping[str, Any], base: str, architecture: str) -> None:
    """Raise InvalidParameter for layers that no GGUF of the architecture has, with those that it has."""
    against = unknown_target(architecture, checked.get("target_modules") or ())
    if against is not None:
        raise InvalidParameter(
            f"target_modules: '{base}' {against}",
            errors=[((*WHERE, "target_modules"), f"some of {', '.join(TARGETS[architecture])}")],
        )


def check_length(checked: Mapping[str, Any], base: str, made_for_tokens: int | None) -> None:
    """Raise InvalidParameter for rows that are longer than the base was made for."""
    tokens = checked.get("sequence_length")
    if tokens is not None and made_for_tokens is not None and tokens > made_for_tokens:
        raise InvalidParameter(
            f"'sequence_length' is {tokens:,}, and '{base}' was made for {made_for_tokens:,} tokens; lower it",
            errors=[((*WHERE, "sequence_length"), f"at most {made_for_tokens}")],
        )


def _is_another(given: Any, plain: Any) -> bool:
    return given is not None and (tuple(given) if isinstance(given, list) else given) != plain


def complete(checked: Mapping[str, Any]) -> Hyperparameters:
    """All of them."""
    return msgspec.convert(dict(checked), Hyperparameters)
