"""Fixtures of the contract tests: the call log, the starters' deployments, the official SGP clients."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

import httpx
import pytest
from openai import OpenAI
from scale_egp.sdk.client import EGPClient
from scale_egp.sdk.types.model_templates import ModelTemplate
from scale_egp.sdk.types.models import ModelDeployment, ModelInstance
from scale_egp.utils import api_utils
from scale_gp import AsyncSGPClient, DefaultAsyncHttpxClient, DefaultHttpxClient, SGPClient
from scale_gp.types.models import ModelDeployment as ModelDeploymentV4
from scale_gp_beta import AsyncSGPClient as AsyncSGPClientV5
from scale_gp_beta import SGPClient as SGPClientV5
from scale_gp_beta.types import InferenceModel

from tests.support.chain import until
from tests.support.fine_tunings import EXAMPLES, Upload
from tests.support.server import Server

Connect: TypeAlias = Callable[..., EGPClient]
Deployed: TypeAlias = tuple[ModelInstance, ModelDeployment]
Deploy: TypeAlias = Callable[..., Deployed]


Answer = TypeVar("Answer")

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Saves hundreds of clients the reading of the machine's certificates: the server under test is on loopback."""


def settled(ask: Callable[[], Answer]) -> Answer:
    """The second answer to a question. The first leaves the prompt in the cache: what is computed together decides how
    sums are rounded, and from then on it is the same each time, so that answers can be compared word by word."""
    ask()
    return ask()


def name_of_its_own(what: str) -> str:
    """A name that nothing else on the shared server has."""
    return f"contract-{what}-{uuid4().hex[:8]}"


class CallLog:
    """The calls that a server logged, read over HTTP the moment an answer is complete."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def of(self, deployment_id: str) -> list[dict[str, Any]]:
        """The logged calls of a deployment, newest first."""
        answer = self._client.get(f"/admin/deployments/{deployment_id}/calls", params={"limit": 1000})
        found: list[dict[str, Any]] = answer.raise_for_status().json()
        return found

    @contextmanager
    def one_more(self, deployment_id: str) -> Iterator[dict[str, Any]]:
        """Filled at the end of the block with the one call that the block made."""
        before = {call["id"] for call in self.of(deployment_id)}
        logged: dict[str, Any] = {}
        yield logged
        new = [call for call in self.of(deployment_id) if call["id"] not in before]
        assert len(new) == 1, f"one call expected, {len(new)} were logged"
        logged.update(new[0])


class Starters:
    """Deployment ids of the built-in models, by name."""

    def __init__(self, client: httpx.Client) -> None:
        listed = client.get("/v1/models").raise_for_status().json()["data"]
        self._ids = {model["id"]: model["deployment_id"] for model in listed}
        self.chat = self._ids["starter-chat"]
        self.embed = self._ids["starter-embed"]
        self.rerank = self._ids["starter-rerank"]


@pytest.fixture
def calls(admin: httpx.Client) -> CallLog:
    """The call log."""
    return CallLog(admin)


@pytest.fixture(scope="module")
def starters(server: Server) -> Starters:
    """The built-ins."""
    with server.client() as client:
        return Starters(client)


@pytest.fixture
def connect(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Makes official clients. They open an httpx.Client per call and leave it open; here all are closed in the end."""
    opened: list[httpx.Client] = []

    def open_client(**options: Any) -> httpx.Client:
        opened.append(httpx.Client(**options, verify=NO_TLS))
        return opened[-1]

    monkeypatch.setattr(api_utils, "Client", open_client)
    yield lambda api_key, **options: EGPClient(api_key=api_key, endpoint_url=server.url, **options)
    for client in opened:
        client.close()


@pytest.fixture
def egp(server: Server, connect: Connect) -> EGPClient:
    """The official client with an admin's key; it finds its account by itself."""
    return connect(server.admin_key)


@pytest.fixture
def member_egp(server: Server, connect: Connect) -> EGPClient:
    """The official client with a member's key."""
    return connect(server.member_key)


@pytest.fixture
def templates(egp: EGPClient) -> dict[str, ModelTemplate]:
    """All templates by name."""
    return {template.name: template for template in egp.model_templates().list()}


@pytest.fixture
def deploy(egp: EGPClient, templates: dict[str, ModelTemplate]) -> Iterator[Deploy]:
    """Makes a model and its deployment from a shipped template, and removes both in the end."""
    with ExitStack() as undo:

        def make(template: str, weights: str, **parameters: Any) -> Deployed:
            chosen = templates[template]
            model = egp.models().create(name_of_its_own("model"), chosen.model_type, model_template_id=chosen.id)
            undo.callback(egp.models().delete, model.id)
            deployments = egp.models().deployments()
            deployment = deployments.create(model, name_of_its_own("deployment"), {"weights": weights, **parameters})
            undo.callback(deployments.delete, deployment.id, model)
            return model, deployment

        yield make


@pytest.fixture
def openai_client(server: Server) -> Iterator[OpenAI]:
    """The official OpenAI client with a member's key."""
    with OpenAI(base_url=f"{server.url}/v1", api_key=server.member_key, max_retries=0, timeout=60) as made:
        yield made


def text_model(deploy: Deploy, template: str) -> Deployed:
    """A deployment of the starter's weights with a short context."""
    return deploy(template, "starter-chat", context_length=1024)


# --- v4's client, as strict as it can be -----------------------------------------------------------------------------


@contextmanager
def strict_client(server: Server, key: str, **options: Any) -> Iterator[SGPClient]:
    """The official client, refusing whatever is not as its types say."""
    with SGPClient(
        base_url=server.url,
        api_key=key,
        _strict_response_validation=True,
        http_client=DefaultHttpxClient(verify=NO_TLS),
        **options,
    ) as client:
        yield client


@pytest.fixture
def sgp(server: Server) -> Iterator[SGPClient]:
    """The official v4 client with an admin's key."""
    with strict_client(server, server.admin_key) as client:
        yield client


@pytest.fixture
def member_sgp(server: Server) -> Iterator[SGPClient]:
    """The official v4 client with a member's key."""
    with strict_client(server, server.member_key) as client:
        yield client


@pytest.fixture
async def async_sgp(server: Server) -> AsyncIterator[AsyncSGPClient]:
    """The official asynchronous v4 client with a member's key."""
    async with AsyncSGPClient(
        base_url=server.url,
        api_key=server.member_key,
        _strict_response_validation=True,
        http_client=DefaultAsyncHttpxClient(verify=NO_TLS),
    ) as client:
        yield client


@pytest.fixture
def account_id(sgp: SGPClient) -> str:
    """The account of the server's keys."""
    return sgp.users.info().access_profiles[0].account.id


DeployV4: TypeAlias = Callable[..., ModelDeploymentV4]


@pytest.fixture
def deploy_v4(sgp: SGPClient, account_id: str) -> Iterator[DeployV4]:
    """Makes a model and its deployment from a shipped template, and removes both in the end."""
    found = {template.name: template for template in sgp.model_templates.list()}
    with ExitStack() as undo:

        def make(template: str, weights: str = "starter-chat", **parameters: Any) -> ModelDeploymentV4:
            chosen = found[template]
            model = sgp.models.create(
                account_id=account_id,
                model_type=chosen.model_type,
                name=name_of_its_own("model"),
                model_template_id=chosen.id,
            )
            undo.callback(sgp.models.delete, model.id)
            deployment = sgp.models.deployments.create(
                model.id,
                name=name_of_its_own("deployment"),
                model_creation_parameters={"weights": weights, **parameters},
            )
            undo.callback(sgp.models.deployments.delete, deployment.id, model_instance_id=model.id)
            return deployment

        yield make


# --- v5's client -----------------------------------------------------------------------------------------------------


def v5_client(server: Server, key: str, account_id: str, **options: Any) -> SGPClientV5:
    """The official v5 client, refusing whatever is not as its types say; it always names an account."""
    return SGPClientV5(
        base_url=server.url,
        api_key=key,
        account_id=account_id,
        http_client=httpx.Client(verify=NO_TLS, timeout=60),
        **{"_strict_response_validation": True, **options},
    )


@pytest.fixture
def v5(server: Server, account_id: str) -> Iterator[SGPClientV5]:
    """The official v5 client with an admin's key."""
    with v5_client(server, server.admin_key, account_id) as client:
        yield client


@pytest.fixture
def member_v5(server: Server, account_id: str) -> Iterator[SGPClientV5]:
    """The official v5 client with a member's key."""
    with v5_client(server, server.member_key, account_id) as client:
        yield client


@pytest.fixture
async def async_v5(server: Server, account_id: str) -> AsyncIterator[AsyncSGPClientV5]:
    """The official asynchronous v5 client with a member's key."""
    async with AsyncSGPClientV5(
        base_url=server.url,
        api_key=server.member_key,
        account_id=account_id,
        _strict_response_validation=True,
        http_client=httpx.AsyncClient(verify=NO_TLS, timeout=60),
    ) as client:
        yield client


MakeV5: TypeAlias = Callable[..., InferenceModel]


@pytest.fixture
def make_v5(member_v5: SGPClientV5) -> Iterator[MakeV5]:
    """Makes a model of the starter's weights with v5's client and waits until it is ready; removed in the end."""
    with ExitStack() as undo:

        def make(vendor: str = "llmengine", **fields: Any) -> InferenceModel:
            configuration = fields.pop("vendor_configuration", {"model": "starter-chat", "context_length": 1024})
            body: Any = {
                "name": name_of_its_own("v5"),
                "model_vendor": vendor,
                "vendor_configuration": configuration,
                **fields,
            }
            made = member_v5.models.create(model=body)
            undo.callback(forget_v5, member_v5, made.id)
            return settled_v5(member_v5, made.id)

        yield make


def settled_v5(client: SGPClientV5, model_id: str) -> InferenceModel:
    """The model once it is ready or failed."""

    def look() -> InferenceModel | None:
        found = client.models.retrieve(model_id)
        return found if found.status != "deploying" else None

    return until(look, f"{model_id} is no longer deploying")


def forget_v5(client: SGPClientV5, model_id: str) -> None:
    """Delete a model that a test may have deleted itself."""
    if model_id in {model.id for model in client.models.list(limit=1000)}:
        settled_v5(client, model_id)
        client.models.delete(model_id)


@pytest.fixture
def upload(sgp: SGPClient, account_id: str) -> Upload:
    """Uploads a dataset with v4's client; text is all that it can send."""

    def send(text: str = EXAMPLES, schema_type: str = "GENERATION") -> Any:
        return sgp.training_datasets.create(
            account_id=account_id,
            name=name_of_its_own("dataset"),
            schema_type=schema_type,  # type: ignore[arg-type]
            file=text,
        )

    return send
