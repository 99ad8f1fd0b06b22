"""The official ``scale-gp`` client in strict mode: model servers, their aliases, and what stands behind them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from scale_gp import AsyncSGPClient, ConflictError, NotFoundError, SGPClient, UnprocessableEntityError
from scale_gp.types.shared import ModelServerInfo

from tests.contract.conftest import CallLog, DeployV4, Starters, name_of_its_own
from tests.contract.test_scale_gp_deployments import events_of
from tests.support.server import Server

PROMPTS = {"prompts": ["A model"], "temperature": 0, "max_tokens": 4}


@pytest.fixture
def make_server(sgp: SGPClient, admin: httpx.Client, deploy_v4: DeployV4) -> Iterator[Any]:
    """Makes model servers, and removes them before the deployments behind them: the client has no call for that."""
    made: list[str] = []

    def make(deployment_id: str, **fields: Any) -> ModelServerInfo:
        fields = {"name": name_of_its_own("server"), **fields}
        server = sgp.model_servers.create(model_deployment_id=deployment_id, **fields)
        made.append(server.model_server_id)
        return server

    yield make
    for server_id in made:
        admin.delete(f"/v4/serving/{server_id}")


def test_a_server_from_birth_to_end(
    sgp: SGPClient, make_server: Any, starters: Starters, account_id: str, admin: httpx.Client
) -> None:
    """Made, listed as a bare array, found by id and by alias; its name and alias are taken; an alias has no slash,
    which would not get through a path (trap 20); in the end it is gone."""
    alias = name_of_its_own("alias")
    server = make_server(starters.embed, alias=alias)
    assert (server.account_id, server.alias, server.model_deployment_id) == (account_id, alias, starters.embed)
    assert sgp.model_servers.retrieve(server.model_server_id) == server
    assert sgp.alias.retrieve(alias) == server
    assert server in sgp.model_servers.list()
    assert sgp.model_servers.deployment.retrieve(server.model_server_id).model_deployment_id == starters.embed
    assert make_server(starters.embed).alias is None
    for taken in ({"name": server.name}, {"name": name_of_its_own("x"), "alias": alias}):
        with pytest.raises(ConflictError, match=next(reversed(taken.values()))) as error:
            sgp.model_servers.create(model_deployment_id=starters.embed, **taken)
        assert error.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(UnprocessableEntityError, match="alias"):
        sgp.model_servers.create(model_deployment_id=starters.embed, name=name_of_its_own("x"), alias="a/b")
    with pytest.raises(NotFoundError):
        sgp.model_servers.create(model_deployment_id="none", name=name_of_its_own("x"))
    gone = admin.delete(f"/v4/serving/{server.model_server_id}")
    assert gone.json() == {"count": 1, "success": True}
    with pytest.raises(NotFoundError, match=alias):
        sgp.alias.retrieve(alias)


def test_a_server_executes_what_stands_behind_it(
    sgp: SGPClient, make_server: Any, deploy_v4: DeployV4, calls: CallLog
) -> None:
    """By id and by alias, with the body and the answer of the deployment; the calls are the deployment's."""
    deployment = deploy_v4("llama-cpp-completion", context_length=512)
    alias = name_of_its_own("alias")
    server = make_server(deployment.id, alias=alias)
    with calls.one_more(deployment.id) as logged:
        answer: Any = sgp.model_servers.execute(server.model_server_id, extra_body=PROMPTS)
    assert answer.completions[0][0] == "A model"
    assert logged["dialect"] == "sgp_v4"
    with calls.one_more(deployment.id):
        assert sgp.alias.execute(alias, extra_body=PROMPTS).completions == answer.completions
    with sgp.alias.with_streaming_response.execute(alias, stream=True, extra_body=PROMPTS) as response:
        events = events_of(response.read().decode())
    assert "".join(event["completions"][0][1][0] for event in events) == answer.completions[0][1][0]
    assert events[-1]["response_tokens"] == answer.response_tokens
    with pytest.raises(ConflictError, match=server.name):
        sgp.models.deployments.delete(deployment.id, model_instance_id=str(deployment.model_instance_id))


def test_a_backend_is_swapped_and_rolled_back(sgp: SGPClient, make_server: Any, deploy_v4: DeployV4) -> None:
    """PUT moves the server, a rollback (a POST without a body, trap 17) moves it back, as often as there is a way."""
    first, second, third = (deploy_v4("llama-cpp-completion", context_length=length) for length in (512, 513, 514))
    server = make_server(first.id)
    for old, new in ((first, second), (second, third)):
        moved = sgp.model_servers.update_backend(server.model_server_id, new_model_deployment_id=new.id)
        assert (moved.old_model_deployment_id, moved.new_model_deployment_id, moved.model_deployment_id) == (
            old.id,
            new.id,
            new.id,
        )
        assert sgp.model_servers.deployment.retrieve(server.model_server_id).model_deployment_id == new.id
    again = sgp.model_servers.update_backend(server.model_server_id, new_model_deployment_id=third.id)
    assert again.model_deployment_id == third.id
    for gone, back in ((third, second), (second, first)):
        rolled = sgp.model_servers.rollback(server.model_server_id)
        assert (rolled.from_deployment, rolled.rolled_back_to_deployment) == (gone.id, back.id)
    with pytest.raises(ConflictError, match="no earlier backend"):
        sgp.model_servers.rollback(server.model_server_id)


def test_a_backend_that_cannot_serve_leaves_the_old_one(
    sgp: SGPClient, make_server: Any, deploy_v4: DeployV4, starters: Starters, admin: httpx.Client
) -> None:
    """Another type is refused; one that does not load is its error, and the old backend goes on answering."""
    deployment = deploy_v4("llama-cpp-completion", context_length=512)
    server = make_server(deployment.id)
    with pytest.raises(UnprocessableEntityError, match="EMBEDDING"):
        sgp.model_servers.update_backend(server.model_server_id, new_model_deployment_id=starters.embed)
    model_id = str(deployment.model_instance_id)
    broken = sgp.models.deployments.create(
        model_id,
        name=name_of_its_own("deployment"),
        model_creation_parameters={"weights": "starter-chat"},
        vendor_configuration={"vendor": "LLMENGINE", "gpus": 8},
    )
    if broken.status == "READY":
        pytest.skip("this machine has eight GPUs")
    answer = admin.put(f"/v4/serving/{server.model_server_id}/backend", json={"new_model_deployment_id": broken.id})
    assert answer.status_code in {400, 503}
    shown = admin.get(f"/v4/serving/{server.model_server_id}").json()
    assert shown["model_deployment_id"] == deployment.id
    assert "GPU" in shown["swap_error"]
    assert sgp.model_servers.execute(server.model_server_id, extra_body=PROMPTS).completions
    sgp.models.deployments.delete(broken.id, model_instance_id=model_id)


def test_nobody_notices_a_swap(server: Server, sgp: SGPClient, make_server: Any, deploy_v4: DeployV4) -> None:
    """Callers that go on through swaps and rollbacks are all answered."""
    first, second = (deploy_v4("llama-cpp-completion", context_length=length) for length in (512, 513))
    alias = name_of_its_own("alias")
    made = make_server(first.id, alias=alias)
    calling, stop, answers = threading.Barrier(3), threading.Event(), []

    def call() -> None:
        with server.client() as client:
            answers.append(client.post(f"/v4/serving/a/{alias}/execute", json=PROMPTS).status_code)
            calling.wait(60)
            while not stop.is_set():
                answers.append(client.post(f"/v4/serving/a/{alias}/execute", json=PROMPTS).status_code)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        calling.wait(60)
        for _ in range(3):
            sgp.model_servers.update_backend(made.model_server_id, new_model_deployment_id=second.id)
            sgp.model_servers.rollback(made.model_server_id)
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert len(answers) > 4
    assert set(answers) == {200}


def test_a_client_is_answered_before_it_hangs_up(sgp: SGPClient, make_server: Any, deploy_v4: DeployV4) -> None:
    """A swap whose load takes longer than the client waits is answered with the old backend still serving; asking again
    joins it, and then the new one serves (traps 11 and 12)."""
    first = deploy_v4("llama-cpp-completion", context_length=512)
    second = sgp.models.deployments.create(
        str(first.model_instance_id),
        name=name_of_its_own("deployment"),
        model_creation_parameters={"weights": "starter-chat", "context_length": 515},
        wait_for_ready=False,
    )
    made = make_server(first.id)
    early: Any = sgp.model_servers.update_backend(
        made.model_server_id,
        new_model_deployment_id=second.id,
        extra_headers={"x-stainless-read-timeout": "0.001"},
    )
    if early.model_deployment_id == first.id:
        assert early.pending_model_deployment_id == second.id
        assert early.new_model_deployment_id == second.id
    late = sgp.model_servers.update_backend(made.model_server_id, new_model_deployment_id=second.id)
    assert late.model_deployment_id == second.id
    sgp.model_servers.rollback(made.model_server_id)
    sgp.models.deployments.delete(second.id, model_instance_id=str(first.model_instance_id))
    with pytest.raises(ConflictError, match="no earlier backend"):
        sgp.model_servers.rollback(made.model_server_id)


async def test_the_asynchronous_client_calls_an_alias(
    async_sgp: AsyncSGPClient, make_server: Any, starters: Starters
) -> None:
    """The same through the asynchronous client."""
    alias = name_of_its_own("alias")
    make_server(starters.rerank, alias=alias)
    assert (await async_sgp.alias.retrieve(alias)).alias == alias
    answer: Any = await async_sgp.alias.execute(alias, extra_body={"query": "key", "chunks": ["a key", "rain"]})
    assert len(answer.chunk_scores) == 2
    assert alias in [server.alias async for server in async_sgp.model_servers.list()]
