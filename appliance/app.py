"""Composition root: the Litestar application over a node, and the server process around it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

import uvicorn
from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.static_files import create_static_files_router
from litestar.types import ControllerRouterHandler

import appliance
from appliance.api.anthropic import routes as anthropic_routes
from appliance.api.auth import Gate, provide_caller
from appliance.api.bodies import BodyRequest
from appliance.api.connection import Connection
from appliance.api.description.document import DescriptionConfig
from appliance.api.description.serving import description_router
from appliance.api.errors import handle_appliance_error, handle_http_exception, handle_unexpected
from appliance.api.headers import QuotaHeaders
from appliance.api.idempotency import Idempotency
from appliance.api.methods import Options
from appliance.api.ollama import routes as ollama_routes
from appliance.api.ollama import store as ollama_store
from appliance.api.openai import batches as batch_routes
from appliance.api.openai import responses as response_routes
from appliance.api.openai import routes as openai_routes
from appliance.api.openai import tokens as token_routes
from appliance.api.openai.batch_lines import BatchLines
from appliance.api.ops import admin, health, users
from appliance.api.ops.calls import CallsController
from appliance.api.ops.limits import LimitsController
from appliance.api.ops.training import TrainingController
from appliance.api.sgp import execute, v2, v3, v3_training
from appliance.api.sgp import usage as usage_routes
from appliance.api.sgp.async_tasks import AsyncTaskController, Executions
from appliance.api.sgp.v4 import routes as v4_routes
from appliance.api.sgp.v5 import routes as v5_routes
from appliance.api.slashes import SlashKeeper
from appliance.api.streaming import ClientLeft, handle_client_left
from appliance.config import Config
from appliance.domain.errors import ApplianceError, InvalidParameter
from appliance.lifecycle.node import Node

log = logging.getLogger(__name__)

ASSETS = "/schema/assets"
LOOPBACK = {"127.0.0.1", "::1", "localhost"}

ROUTES: list[ControllerRouterHandler] = [
    health.livez,
    health.readyz,
    health.metrics,
    users.user_info,
    users.get_user,
    users.create_account,
    v2.complete_v2,
    v2.complete_egp_v1,
    v3.TemplateController,
    v3.ModelController,
    v3.DeploymentController,
    v3.GroupController,
    execute.ExecuteController,
    v3_training.TrainingDatasetController,
    v3_training.FineTuningJobController,
    *v4_routes.ROUTES,
    *v5_routes.ROUTES,
    openai_routes.list_models,
    openai_routes.get_model,
    openai_routes.create_chat_completion,
    openai_routes.create_completion,
    openai_routes.create_embeddings,
    openai_routes.create_rerank,
    openai_routes.create_rerank_v2,
    response_routes.create_response,
    response_routes.count_input_tokens,
    token_routes.create_tokens,
    token_routes.create_text,
    batch_routes.create_file,
    batch_routes.list_files,
    batch_routes.get_file,
    batch_routes.get_file_content,
    batch_routes.delete_file,
    batch_routes.create_batch,
    batch_routes.list_batches,
    batch_routes.get_batch,
    batch_routes.cancel_batch,
    AsyncTaskController,
    anthropic_routes.create_message,
    anthropic_routes.count_tokens,
    ollama_routes.greet,
    ollama_routes.probe,
    ollama_routes.get_version,
    ollama_routes.list_models,
    ollama_routes.list_running,
    ollama_routes.show_model,
    ollama_routes.chat,
    ollama_routes.generate,
    ollama_routes.embed,
    ollama_routes.embeddings,
    ollama_store.pull,
    ollama_store.push,
    ollama_store.create,
    ollama_store.copy,
    ollama_store.delete_model,
    ollama_store.create_blob,
    admin.StateController,
    admin.AdminController,
    CallsController,
    LimitsController,
    TrainingController,
    usage_routes.model_usage,
    usage_routes.deployment_usage,
    usage_routes.group_usage,
]


def make_app(node: Node) -> Litestar:
    """The HTTP application of a node; its lifespan starts and stops the node."""

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await node.start()
        await node.start_background(Executions(node.task_inference), BatchLines(node.background_inference, node.clock))
        try:
            yield
        finally:
            await node.close()

    hosts = [*node.config.allowed_hosts, node.config.host]
    return SlashKeeper(
        route_handlers=[*ROUTES, _swagger_files()],
        lifespan=[lifespan],
        dependencies={
            "node": Provide(lambda: node, sync_to_thread=False),
            "caller": Provide(provide_caller, sync_to_thread=False),
        },
        middleware=[Gate(node, hosts), Options(), QuotaHeaders(node.quotas), Idempotency(node.answers)],
        exception_handlers={
            ApplianceError: handle_appliance_error,
            HTTPException: handle_http_exception,
            ClientLeft: handle_client_left,
            Exception: handle_unexpected,
        },
        openapi_config=_openapi(),
        request_class=BodyRequest,
        request_max_body_size=node.config.max_body_bytes,
        state=State({"node": node}),
        logging_config=None,
    )


def _openapi() -> DescriptionConfig:
    """The document at /schema/openapi.json and its page at /schema, which loads nothing from elsewhere."""
    page = SwaggerRenderPlugin(
        js_url=f"{ASSETS}/swagger-ui-bundle.js",
        css_url=f"{ASSETS}/swagger-ui.css",
        standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
        favicon=f"<link rel='icon' href='{ASSETS}/favicon-32x32.png'>",
        path="/",
    )
    return DescriptionConfig(
        routes=ROUTES,
        title="Model appliance",
        version=appliance.__version__,
        description=(appliance.__doc__ or "").strip(),
        render_plugins=[page],
        openapi_router=description_router("/schema"),
    )


def _swagger_files() -> Router:
    folder = Path(str(files("swagger_ui"))) / "static"
    return create_static_files_router(path=ASSETS, directories=[folder], include_in_schema=False)


def check_exposure(config: Config) -> None:
    """Refuse to listen beyond loopback without TLS, unless told so. Raises InvalidParameter."""
    if bool(config.tls_certificate) != bool(config.tls_key):
        raise InvalidParameter("tls_certificate and tls_key go together; only one is set")
    if config.host in LOOPBACK or config.tls_certificate or config.insecure:
        return
    raise InvalidParameter(
        f"listening on {config.host} without TLS would send keys in the clear; set tls_certificate and tls_key, "
        "or pass --insecure if something in front does TLS"
    )


async def serve(home: Path, config: Config, on_ready: Callable[[str], None]) -> None:
    """Run the server until a signal ends it. ``on_ready`` gets the URL once requests are answered.

    The caller has passed ``config`` to ``check_exposure``.
    """
    node = Node(home, config)
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(node),
            http=Connection,
            host=config.host,
            port=config.port,
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            ssl_certfile=config.tls_certificate,
            ssl_keyfile=config.tls_key,
            timeout_graceful_shutdown=config.shutdown_grace_seconds,
            timeout_keep_alive=75,
        )
    )
    announcing = asyncio.create_task(_announce(server, config, on_ready))
    try:
        await server.serve()
    finally:
        announcing.cancel()
        await node.close()
        notify_systemd("STOPPING=1")


async def _announce(server: uvicorn.Server, config: Config, on_ready: Callable[[str], None]) -> None:
    while not server.started:  # uvicorn offers nothing to await
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    host = f"[{config.host}]" if ":" in config.host else config.host
    scheme = "https" if config.tls_certificate else "http"
    on_ready(f"{scheme}://{host}:{port}")
    notify_systemd("READY=1")


def notify_systemd(message: str) -> None:
    """Tell systemd (Type=notify) where we are; without it nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.connect("\0" + address[1:] if address.startswith("@") else address)
        notifier.sendall(message.encode())
