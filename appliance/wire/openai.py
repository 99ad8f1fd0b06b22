"""The OpenAI dialect under ``/v1``: models, completions, chat completions, embeddings, and beside them ``rerank`` and
``tokenize``. The bodies of ``/v1/responses`` are in ``openai_responses``.

Unknown fields are refused by name. Which of the documented fields are served, which have no effect on one machine and
which are refused when they are set says ``appliance.api.openai.fields``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct, field

from appliance.wire import admin
from appliance.wire.limits import (
    MAX_CHOICES,
    MAX_CHUNKS,
    MAX_LOGIT_BIAS,
    MAX_MESSAGES,
    MAX_PROMPTS,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
    ImageUrl,
    MaxTokens,
    Name,
    Penalty,
    Probability,
    Seed,
    StopSequences,
    StopText,
    Temperature,
    Text,
    TextOrImage,
    TopK,
)

TokenIds: TypeAlias = Annotated[list[Annotated[int, Meta(ge=0, le=2**31 - 1)]], Meta(max_length=1_000_000)]
Choices: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_CHOICES)]
TopLogprobs: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)]
LogitBias: TypeAlias = Annotated[dict[str, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=MAX_LOGIT_BIAS)]


Effort: TypeAlias = Annotated[str, Meta(min_length=1, max_length=32)]


class StreamOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """``include_usage``: one more chunk before ``[DONE]`` that carries the token counts."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class _Sampling(Struct, kw_only=True, forbid_unknown_fields=True):
    """Fields that both kinds of completion share."""

    model: Name
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_k: TopK | None = None
    min_p: Probability | None = None
    n: Choices | None = None
    stop: StopText | StopSequences | None = None
    seed: Seed | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=4)] | None = None
    logit_bias: LogitBias | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None


class CompletionCreate(_Sampling, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/completions``."""

    prompt: Text | Annotated[list[Text | TokenIds | int], Meta(min_length=1, max_length=1_000_000)]
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: bool | None = None
    suffix: Text | None = None
    best_of: Choices | None = None


class FunctionCall(Struct, kw_only=True):
    """The function of a tool call; ``arguments`` is JSON text."""

    name: str
    arguments: str


class ToolCall(Struct, kw_only=True):
    """A call the model made."""

    function: FunctionCall
    id: str = ""
    type: Literal["function"] = "function"


class ImagePart(Struct, kw_only=True):
    """The data URL of an image. ``detail`` has no effect: an image is read as large as the model reads images."""

    url: ImageUrl
    detail: str | None = None


class ContentPart(Struct, kw_only=True):
    """A part of a message's content: a text, what a model refused with, or an image."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImagePart | None = None


class Message(Struct, kw_only=True):
    """One turn of the conversation. An assistant's thoughts go back as ``reasoning_content`` or ``reasoning``."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=MAX_TOOLS)] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None
    audio: Any = None
    function_call: Any = None


class FunctionDefinition(Struct, kw_only=True, forbid_unknown_fields=True):
    """A function that the caller can run."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolDefinition(Struct, kw_only=True):
    """A tool; functions are the only kind that is served."""

    function: FunctionDefinition | None = None
    type: str = "function"


class NamedFunction(Struct, kw_only=True, forbid_unknown_fields=True):
    """The name of a function."""

    name: str


class NamedTool(Struct, kw_only=True):
    """A tool by its name."""

    function: NamedFunction | None = None
    type: str = "function"


class AllowedTools(Struct, kw_only=True, forbid_unknown_fields=True):
    """Those of the tools that may be called now; with ``required`` one of them must be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Meta(min_length=1, max_length=MAX_TOOLS)]


class ToolChoice(Struct, kw_only=True):
    """This function must be called, or some of the tools may be."""

    type: str
    function: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None


class JsonSchemaFormat(Struct, kw_only=True, forbid_unknown_fields=True):
    """The schema that the answer follows."""

    name: str
    schema: dict[str, Any] = field(default_factory=dict)
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Struct, kw_only=True, forbid_unknown_fields=True):
    """``text``, ``json_object``, or ``json_schema`` with its schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class ChatCompletionCreate(_Sampling, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolDefinition], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: Effort | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    prediction: Any = None
    audio: Any = None
    modalities: Any = None
    functions: Any = None
    function_call: Any = None
    moderation: Any = None
    verbosity: str | None = None
    web_search_options: Any = None


class EmbeddingImageUrl(Struct, kw_only=True, forbid_unknown_fields=True):
    """The data URL of an image."""

    url: ImageUrl


class EmbeddingItem(Struct, kw_only=True, forbid_unknown_fields=True):
    """A text or an image, as Jina's clients (``image``, ``text``) and vLLM's (``image_url``) write it."""

    type: Literal["text", "image", "image_url"] | None = None
    text: Text | None = None
    image: ImageUrl | None = None
    """A data URL, or base64 alone."""
    image_url: EmbeddingImageUrl | ImageUrl | None = None


class EmbeddingsCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/embeddings``. A text that begins like the data URL of an image is one."""

    model: Name
    input: (
        TextOrImage
        | EmbeddingItem
        | Annotated[list[TextOrImage | TokenIds | int | EmbeddingItem], Meta(min_length=1, max_length=1_000_000)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    user: str | None = None


class RerankCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/rerank`` and ``POST /v2/rerank``: what Jina and Cohere have in common, and their own names."""

    model: Name
    query: Text
    documents: Annotated[list[Text | dict[str, Any]], Meta(min_length=1, max_length=MAX_CHUNKS)]
    top_n: Annotated[int, Meta(ge=1, le=MAX_CHUNKS)] | None = None
    return_documents: bool | None = None
    rank_fields: Annotated[list[Name], Meta(min_length=1, max_length=64)] | None = None
    max_tokens_per_doc: MaxTokens | None = None
    max_chunks_per_doc: MaxTokens | None = None
    priority: Annotated[int, Meta(ge=0, le=999)] | None = None


class TokenizeCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/tokenize``: ``prompt`` or ``messages`` as vLLM has them, or ``content`` as llama-server."""

    model: Name
    prompt: Text | None = None
    content: Text | None = None
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)] | None = None
    tools: Annotated[list[ToolDefinition], Meta(max_length=MAX_TOOLS)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: Effort | None = None
    add_special_tokens: bool | None = None
    add_special: bool | None = None
    return_token_strs: bool | None = None
    with_pieces: bool | None = None


class DetokenizeCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/detokenize``."""

    model: Name
    tokens: TokenIds


class ErrorObject(Struct, kw_only=True):
    """A failure as the official client shows it: its message, and nothing else of the body."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    code: str
    param: str | None = None


class Problem(admin.Problem, kw_only=True):
    """Every error body under ``/v1``."""

    error: ErrorObject


__all__ = [
    "MAX_PROMPTS",
    "AllowedTools",
    "ChatCompletionCreate",
    "CompletionCreate",
    "ContentPart",
    "DetokenizeCreate",
    "Effort",
    "EmbeddingImageUrl",
    "EmbeddingItem",
    "EmbeddingsCreate",
    "ErrorObject",
    "FunctionCall",
    "FunctionDefinition",
    "Message",
    "NamedTool",
    "Problem",
    "RerankCreate",
    "ResponseFormat",
    "StreamOptions",
    "TokenIds",
    "TokenizeCreate",
    "ToolCall",
    "ToolChoice",
    "ToolDefinition",
]
