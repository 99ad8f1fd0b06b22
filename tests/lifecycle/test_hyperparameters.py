"""Hyperparameters: every name of the contract with the training process, its type and its range."""

from __future__ import annotations

import msgspec
import pytest

from appliance.domain.errors import InvalidParameter
from appliance.domain.training import Hyperparameters, Schedule, TrainingKind
from appliance.lifecycle.hyperparameters import SETTINGS, check, check_kind, check_precision, check_targets, complete


def test_the_table_is_the_contract():
    """Each has an entry, and its default is within its range and of its type."""
    assert [setting.name for setting in SETTINGS] == [field.name for field in msgspec.structs.fields(Hyperparameters)]
    defaults = msgspec.to_builtins(Hyperparameters())
    assert complete(check(defaults)) == Hyperparameters()


def test_clients_may_send_text():
    """One official client's users write everything as text; it is read by the declared type."""
    given = {"epochs": "2", "packing": "False", "target_modules": "q_proj, v_proj", "schedule": "linear", "seed": 3.0}
    chosen = complete(check(given))
    assert (chosen.epochs, chosen.packing, chosen.seed) == (2.0, False, 3)
    assert chosen.target_modules == ("q_proj", "v_proj")
    assert chosen.schedule is Schedule.LINEAR


def test_adapters_have_some_of_their_own():
    """An encoder is trained as a whole: what would not be heeded is refused, unless it changes nothing."""
    given = {"rank": 4, "target_modules": ["q_proj"], "epochs": 2.0}
    check_kind(TrainingKind.GENERATION, given)
    check_kind(TrainingKind.EMBEDDING, {"rank": 16, "alpha": 32.0, "target_modules": [], "epochs": 2.0})
    with pytest.raises(InvalidParameter, match="rank, target_modules: only adapters") as refused:
        check_kind(TrainingKind.RERANKING, given)
    assert [loc[-1] for loc, _ in refused.value.errors] == ["rank", "target_modules"]


def test_encoders_are_trained_in_float32() -> None:
    """Half precision is refused with the order, not a minute later."""
    check_kind(TrainingKind.GENERATION, {"precision": "bfloat16"})
    check_kind(TrainingKind.EMBEDDING, {"precision": "auto"})
    with pytest.raises(InvalidParameter, match="float32"):
        check_kind(TrainingKind.EMBEDDING, {"precision": "bfloat16"})


def test_half_precision_is_refused_where_it_would_lose_positions() -> None:
    """By the base's architecture, with what to say instead."""
    check_precision({"precision": "bfloat16"}, "base", "llama")
    check_precision({"precision": "float32"}, "base", "bloom")
    with pytest.raises(InvalidParameter, match=r"'base' \(bloom\) loses its positions"):
        check_precision({"precision": "bfloat16"}, "base", "bloom")


def test_layers_that_the_architecture_does_not_have_are_refused() -> None:
    """With those that it has, before anything is loaded."""
    check_targets({"target_modules": ["q_proj", "down_proj"]}, "base", "llama")
    check_targets({"target_modules": []}, "base", "phi3")
    check_targets({}, "base", "phi3")
    with pytest.raises(
        InvalidParameter, match=r"'base' \(phi3\) has no 'q_proj'; it has qkv_proj, o_proj, "
    ) as refused:
        check_targets({"target_modules": ["o_proj", "q_proj"]}, "base", "phi3")
    assert [loc[-1] for loc, _ in refused.value.errors] == ["target_modules"]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_ranges_hold(setting):
    """Outside of it, of another type, or null where that means nothing: refused with the name."""
    wrong = [{"a": 1}, [1], "" if setting.type == "words" else "many", None]
    if setting.low is not None:
        wrong += [setting.low - 1, setting.high * 2 + 1]
    if setting.type in ("words", "bool"):
        wrong = [{"a": 1}, [1], "a/b" if setting.type == "words" else "many"]
    for value in wrong:
        if value is None and setting.may_be_null:
            continue
        with pytest.raises(InvalidParameter, match=setting.name):
            check({setting.name: value})


def test_every_fault_is_named():
    """All of them at once, each with its place."""
    with pytest.raises(InvalidParameter) as refused:
        check({"epoch": 1, "rank": 0})
    assert [location[-1] for location, _ in refused.value.errors] == ["epoch", "rank"]
    assert "there are: alpha, batch_size" in refused.value.message
