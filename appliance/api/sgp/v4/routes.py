"""All routes of dialect v4, and those under older prefixes that have the same bodies."""

from __future__ import annotations

from litestar.types import ControllerRouterHandler

from appliance.api.sgp.v4 import (
    beta,
    beta_files,
    by_name,
    chunks,
    deployments,
    execute,
    registry,
    serving,
    training,
    typed,
)

ROUTES: list[ControllerRouterHandler] = [
    registry.TemplateController,
    registry.ModelController,
    registry.GroupController,
    deployments.DeploymentController,
    deployments.list_all_deployments,
    execute.execute,
    typed.create_completion,
    typed.create_chat_completion,
    typed.create_embeddings,
    typed.create_reranking,
    by_name.create_completion,
    by_name.create_chat_completion,
    by_name.execute_agent,
    by_name.create_chat_completion_egp_v1,
    by_name.execute_agent_egp_v1,
    chunks.rank_chunks,
    chunks.rank_chunks_v2,
    chunks.rank_chunks_egp_v1,
    serving.ServingController,
    training.TrainingDatasetController,
    training.FineTuningJobController,
    beta.create_chat_completion,
    beta.create_completion,
    beta_files.BetaFileController,
]
