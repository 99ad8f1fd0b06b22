"""Model servers by alias, and what keeps a deployment from going."""

from __future__ import annotations

import pytest
from msgspec import structs

from appliance.domain.errors import InUse, NameTaken
from appliance.registry.deployments import deployments
from appliance.registry.model_servers import model_servers
from tests.registry.registry_samples import ACCOUNT, DEPLOYMENT, MODEL_SERVER, add_model

SERVER = structs.replace(MODEL_SERVER, alias="help")


@pytest.fixture
def served(registry):
    """A registry with a deployment behind a server."""
    registry.run_sync(add_model)
    registry.run_sync(lambda db: deployments.insert(db, DEPLOYMENT))
    registry.run_sync(lambda db: model_servers.insert(db, SERVER))
    return registry


def test_by_alias(served):
    """A server is found by its alias within its account only."""
    assert served.run_sync(lambda db: model_servers.by_alias(db, ACCOUNT.id, "help")) == SERVER
    assert served.run_sync(lambda db: model_servers.by_alias(db, "account-2", "help")) is None


def test_a_name_and_an_alias_are_unique_and_no_alias_is_not(served):
    """The registry refuses what slipped through the check above it."""
    bare = structs.replace(SERVER, id="server-2", name="second", alias=None)
    for server in (bare, structs.replace(bare, id="server-3", name="third")):
        served.run_sync(lambda db, server=server: model_servers.insert(db, server))
    for taken in (
        structs.replace(bare, id="x", name="helpdesk"),
        structs.replace(bare, id="x", name="x", alias="help"),
    ):
        with pytest.raises(NameTaken):
            served.run_sync(lambda db, taken=taken: model_servers.insert(db, taken))


def test_what_stands_behind_a_server_stays(served):
    """Deleting it is refused and names the server."""
    with pytest.raises(InUse, match="helpdesk"):
        served.run_sync(lambda db: deployments.delete(db, DEPLOYMENT.id))
