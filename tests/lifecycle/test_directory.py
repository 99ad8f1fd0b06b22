"""The registry in memory: who sees what, and whose names are taken."""

from __future__ import annotations

import pytest

from appliance.domain.errors import Forbidden, Immutable, NameTaken, NotFound
from appliance.domain.models import Account, Role
from appliance.lifecycle.directory import SYSTEM_ACCOUNT_ID, Directory
from tests.lifecycle.things import NOW, caller, deployment, key, model


@pytest.fixture
def directory() -> Directory:
    """Mine, theirs and what is built in."""
    made = Directory()
    made.accounts = {name: Account(id=name, name=name, created_at=NOW) for name in ("mine", "theirs")}
    made.models = {
        m.id: m
        for m in (
            model("m", "mine"),
            model("n", "theirs"),
            model("b", SYSTEM_ACCOUNT_ID, built_in=True),
        )
    }
    made.replace_deployments(
        [
            deployment("d", "mine", model_id="m"),
            deployment("e", "theirs", model_id="n"),
            deployment("f", SYSTEM_ACCOUNT_ID, model_id="b", name="built-in", built_in=True),
        ]
    )
    return made


def test_a_member_sees_its_account_and_what_is_built_in(directory: Directory) -> None:
    """Other accounts' things are in no list; an admin sees all, or one account's with what is built in."""
    models = directory.models.values()

    assert [m.id for m in directory.visible(caller(), models)] == ["m", "b"]
    assert [m.id for m in directory.visible(caller(role=Role.ADMIN), models)] == ["m", "n", "b"]
    assert [m.id for m in directory.visible(caller(role=Role.ADMIN), models, "theirs")] == ["n", "b"]


def test_ids_cannot_be_probed(directory: Directory) -> None:
    """Another account's id and one that does not exist read alike."""
    messages = []
    for model_id in ("n", "x"):
        with pytest.raises(NotFound) as refused:
            directory.get(caller(), directory.models, model_id, "model")
        messages.append(refused.value.message.replace(f"'{model_id}'", "?"))

    assert messages[0] == messages[1]


def test_what_is_built_in_is_read_only(directory: Directory) -> None:
    """It can be seen, and not be taken to be changed."""
    assert directory.get(caller(), directory.models, "b", "model").built_in
    with pytest.raises(Immutable, match="built in"):
        directory.get_own(caller(role=Role.ADMIN), directory.models, "b", "model")


def test_a_deployment_is_below_its_model(directory: Directory) -> None:
    """A deployment's id under another model's is NotFound."""
    assert directory.deployment_of(caller(), "m", "d").id == "d"
    with pytest.raises(NotFound):
        directory.deployment_of(caller(), "b", "d")


def test_names_are_called_within_the_account(directory: Directory) -> None:
    """By name: built-ins and the caller's own; by id too; never another account's."""
    found = [directory.callable_deployment(caller(), name) for name in ("built-in", "d", "f", "e", "nothing")]

    assert [d.id if d else None for d in found] == ["f", "d", "f", None, None]


def test_a_name_like_an_id_takes_nobodys_calls(directory: Directory) -> None:
    """A deployment named like the id of another does not answer in its place."""
    directory.put_deployment(deployment("g", "mine", name="d"))

    found = directory.callable_deployment(caller(), "d")

    assert found is not None
    assert found.id == "d"


def test_a_renamed_deployment_leaves_its_old_name(directory: Directory) -> None:
    """The index of names follows changes and removals."""
    directory.put_deployment(deployment("d", "mine", name="new"))
    assert directory.callable_deployment(caller(), "d") is not None, "its id still works"
    renamed = directory.callable_deployment(caller(), "new")
    assert renamed is not None
    assert renamed.id == "d"

    directory.drop_deployment("d")
    assert directory.callable_deployment(caller(), "new") is None
    directory.drop_deployment("d")


def test_names_are_taken_within_the_account_and_by_what_is_built_in(directory: Directory) -> None:
    """Two accounts may use one name; a built-in's name is nobody's; a thing may keep its own."""
    deployments = directory.deployments.values()
    directory.check_name_free(deployments, "theirs", "d", "deployment")
    directory.check_name_free(deployments, "mine", "d", "deployment", but="d")

    with pytest.raises(NameTaken, match="id d"):
        directory.check_name_free(deployments, "mine", "d", "deployment")
    with pytest.raises(NameTaken, match="built in"):
        directory.check_name_free(deployments, "theirs", "built-in", "deployment")


def test_an_account_to_act_for(directory: Directory) -> None:
    """A member acts for its own account; an admin for any that exists, but never for the system's."""
    admin = caller(role=Role.ADMIN)

    assert directory.account_for(caller(), None) == "mine"
    assert directory.account_for(admin, "theirs") == "theirs"
    with pytest.raises(Forbidden):
        directory.account_for(caller(), "theirs")
    for account_id in ("nowhere", SYSTEM_ACCOUNT_ID):
        with pytest.raises(NotFound):
            directory.account_for(admin, account_id)


def test_keys_are_found_by_digest(directory: Directory) -> None:
    """Revoked ones too, so that the refusal can say so; a new key is found at once."""
    directory.replace_keys([key("a", "00" * 32)])
    directory.put_key(key("b", "11" * 32, revoked_at=NOW))

    assert getattr(directory.key_by_digest("00" * 32), "id", None) == "a"
    assert getattr(directory.key_by_digest("11" * 32), "id", None) == "b"
    assert directory.key_by_digest("22" * 32) is None


def test_who_stands_on_weights(directory: Directory) -> None:
    """Models that name them, as weights or adapter, and models whose deployments do; each once."""
    directory.models["m"] = model("m", creation_parameters={"weights": "w"})
    directory.put_deployment(deployment("d", model_id="m", creation_parameters={"weights": "w"}))
    directory.put_deployment(deployment("e", "theirs", model_id="n", creation_parameters={"adapter": "w"}))

    assert {m.id for m in directory.models_using_artifact("w")} == {"m", "n"}
    assert len(directory.models_using_artifact("w")) == 2
    with pytest.raises(NotFound, match="models list"):
        directory.artifact("w")
