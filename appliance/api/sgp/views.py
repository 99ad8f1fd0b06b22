"""Registry records as v3 shows them, and v3 bodies as the engines want them. Pure translation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import ChatRequest, CompletionRequest, Message, Sampling, Tool, ToolCall
from appliance.domain.models import Deployment, Group, Model, Parameter, Template
from appliance.lifecycle.agents import DEFAULT_INSTRUCTIONS, AgentRequest
from appliance.lifecycle.schemas import request_schema, response_schema
from appliance.wire import sgp_v3

DEFAULT_TEMPERATURE = 0.2


def template_view(template: Template) -> sgp_v3.Template:
    """A template."""
    return sgp_v3.Template(
        id=template.id,
        name=template.name,
        created_at=template.created_at,
        account_id=template.account_id,
        created_by_user_id=template.created_by_user_id,
        endpoint_type=template.endpoint_type,
        endpoint_protocol=template.endpoint_protocol,
        model_type=template.model_type.value,
        vendor_configuration=template.vendor_configuration,
        model_creation_parameters_schema=_schema(template.creation_parameters),
        model_request_parameters_schema=_schema(template.request_parameters),
    )


def model_view(model: Model) -> sgp_v3.Model:
    """A model."""
    return sgp_v3.Model(
        id=model.id,
        name=model.name,
        created_at=model.created_at,
        account_id=model.account_id,
        created_by_user_id=model.created_by_user_id,
        model_type=model.model_type.value,
        model_vendor=_vendor(model.model_vendor),
        model_creation_parameters=model.creation_parameters,
        base_model_id=model.base_model_id,
        base_model_metadata=model.base_model_metadata,
        description=model.description,
        model_template_id=model.model_template_id,
        model_group_id=model.model_group_id,
        training_data_card=model.training_data_card,
        model_card=model.model_card,
        request_schema=request_schema(model.model_type),
        response_schema=response_schema(model.model_type),
    )


def deployment_view(deployment: Deployment) -> sgp_v3.Deployment:
    """A deployment. Its vendor configuration is null, or an object with a vendor the client knows."""
    return sgp_v3.Deployment(
        id=deployment.id,
        name=deployment.name,
        created_at=deployment.created_at,
        account_id=deployment.account_id,
        created_by_user_id=deployment.created_by_user_id,
        model_creation_parameters=deployment.creation_parameters,
        vendor_configuration=deployment.vendor_configuration,
        model_instance_id=deployment.model_id,
        status=deployment.status.value,
        status_reason=deployment.status_reason,
    )


def group_view(group: Group) -> sgp_v3.Group:
    """A group; the client cannot read a null description."""
    return sgp_v3.Group(
        id=group.id,
        name=group.name,
        created_at=group.created_at,
        account_id=group.account_id,
        created_by_user_id=group.created_by_user_id,
        description=group.description or "",
    )


def _schema(parameters: Sequence[Parameter]) -> sgp_v3.ParameterSchema:
    fields = [
        sgp_v3.ParameterField(
            name=p.name,
            type=p.type,  # type: ignore[arg-type]  # checked against the four words when the template was made
            description=p.description,
            required=p.required,
        )
        for p in parameters
    ]
    return sgp_v3.ParameterSchema(parameters=fields)


def _vendor(vendor: str | None) -> str | None:
    """A vendor that v3 knows; newer ones would break the client's whole list."""
    return vendor if vendor is None or vendor in {v.value for v in sgp_v3.ModelVendor} else "OTHER"


def sampling_of(temperature: float | None, stop_sequences: Sequence[str] | None, max_tokens: int | None) -> Sampling:
    """SGP's three sampling keys; null and absent mean the default."""
    return Sampling(
        temperature=DEFAULT_TEMPERATURE if temperature is None else temperature,
        stop=tuple(stop_sequences or ()),
        max_tokens=max_tokens,
    )


def completion_requests(
    body: sgp_v3.CompletionExecute, sampling: Sampling, cache_scope: str
) -> list[CompletionRequest]:
    """One request per prompt."""
    return [CompletionRequest(prompt=prompt, sampling=sampling, cache_scope=cache_scope) for prompt in body.prompts]


def chat_request(body: sgp_v3.ChatCompletionExecute, sampling: Sampling, cache_scope: str) -> ChatRequest:
    """A conversation."""
    return ChatRequest(messages=messages_of(body.messages), sampling=sampling, cache_scope=cache_scope)


def agent_request(body: sgp_v3.AgentExecute, sampling: Sampling, cache_scope: str) -> AgentRequest:
    """One step of an agent. Absent instructions are the default ones, null is none at all."""
    return AgentRequest(
        messages=messages_of(body.messages),
        tools=tuple(_tool(tool) for tool in body.tools),
        instructions=_instructions(body.instructions),
        last_k=body.memory_strategy.params.k if body.memory_strategy else None,
        sampling=sampling,
        cache_scope=cache_scope,
    )


def messages_of(messages: Sequence[sgp_v3.Message]) -> tuple[Message, ...]:
    """SGP turns; an ``agent`` turn is the assistant's. Raises InvalidParameter naming a turn without its fields."""
    return tuple(_message(index, message) for index, message in enumerate(messages))


def _message(index: int, message: sgp_v3.Message) -> Message:
    if message.role == "tool":
        if not message.name or message.content is None:
            raise InvalidParameter(f"messages[{index}]: a tool message needs 'name' and 'content'")
        return Message(role="tool", name=message.name, content=message.content)
    if message.role == "agent" and message.tool_request is not None:
        call = ToolCall(name=message.tool_request.name, arguments=message.tool_request.arguments)
        return Message(role="assistant", content=message.content, tool_calls=(call,))
    if message.content is None:
        raise InvalidParameter(f"messages[{index}]: a {message.role} message needs 'content'")
    return Message(role="assistant" if message.role == "agent" else message.role, content=message.content)


def _tool(tool: sgp_v3.Tool) -> Tool:
    properties: dict[str, Any] = {
        name: {"type": value.type, "description": value.description}
        for name, value in tool.arguments.properties.items()
    }
    # v3 tools cannot say what is required, so every argument is; v4 says it.
    required = list(properties) if tool.arguments.required is None else tool.arguments.required
    parameters = {"type": "object", "properties": properties, "required": required}
    return Tool(name=tool.name, description=tool.description, parameters=parameters)


def _instructions(given: str | UnsetType | None) -> str | None:
    return DEFAULT_INSTRUCTIONS if given is UNSET else given
