"""What routes answer where their handlers' return types do not say it: plain dictionaries, streams, texts.

Handlers make dictionaries where a type would cost time for every token. Here stands the type that they have; a test
holds that every operation has one, and others that what is sent is what is described.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from appliance.api.sgp.v4.execute import BODIES, Result
from appliance.lifecycle.schemas import REQUESTS
from appliance.wire import (
    anthropic_answers,
    batch_answers,
    calls,
    ollama_answers,
    openai_answers,
    openai_response_answers,
    sgp_training,
    sgp_v2,
    sgp_v4_execute,
    sgp_v5,
    users,
)

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
JSON_LINES = "application/jsonl"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
ANY = "*/*"


class Answer(Struct, kw_only=True, frozen=True):
    """What one operation takes and gives beside what its handler's signature says."""

    body: Any = None
    """Type of the request's JSON, where the handler reads it by itself."""
    json: Any = None
    """Type of the JSON answer."""
    pieces: Any = None
    """Type of one event, or of one line, where ``stream`` asks for them or nothing else is sent."""
    media_type: str = EVENTS
    """Of a stream, or of a text."""
    ends_with_done: bool = False
    """The last event is the word ``[DONE]``, as OpenAI's clients expect it."""
    is_text: bool = False
    """There is only a text of that media type."""
    is_file: bool = False
    """There are only bytes, of the media type that they came with."""
    runs: bool = False
    """It asks an engine: there may be no room in the line (429), or no engine (503)."""
    ready: bool = False
    """The same JSON comes as 503 while the answer is no."""
    refuses: bool = False
    """It never succeeds: a 400 says how it is done here."""
    limited: bool = False
    """An account may have only so many of what it makes (429)."""
    optional: bool = False
    """It needs a part that not every installation has (501)."""

    @property
    def has_json(self) -> bool:
        """Whether success can be JSON."""
        return not (self.is_text or self.is_file or self.refuses)


def _streamed(json: Any, pieces: Any, **more: Any) -> Answer:
    return Answer(json=json, pieces=pieces, runs=True, **more)


_RUNS = Answer(runs=True)
_REFUSES = Answer(refuses=True)
_FILE = Answer(is_file=True)
_STORES = Answer(limited=True)
_TRAINS = Answer(limited=True, optional=True)
_NAMED_TEXT = _streamed(sgp_v2.CompletionResponse, sgp_v2.CompletionResponse)
_NAMED_CHAT = _streamed(sgp_v4_execute.ChatCompletionResponse, sgp_v4_execute.ChatCompletionPiece)
_TYPED_TEXT = _streamed(sgp_v4_execute.CompletionResult, sgp_v4_execute.CompletionResult)
_EXECUTED_PIECE = sgp_v4_execute.CompletionResult | sgp_v4_execute.MessagePiece
_EXECUTED = _streamed(Result, _EXECUTED_PIECE, body=tuple(BODIES.values()))

ANSWERS: dict[str, Answer] = {
    # health, users, administration
    "ollamaGreet": Answer(is_text=True, media_type="text/plain; charset=utf-8"),
    "metrics": Answer(is_text=True, media_type=METRICS),
    "readyz": Answer(ready=True),
    "userInfo": Answer(json=users.UserInfo),
    "getUser": Answer(json=users.User),
    "adminCalls": Answer(json=list[calls.LoggedCall]),
    "adminExportCalls": Answer(pieces=calls.Call, media_type=JSON_LINES),
    "adminSwap": _RUNS,
    # SGP
    "v2CreateCompletion": _NAMED_TEXT,
    "egpV1CreateCompletion": _NAMED_TEXT,
    "v3ExecuteModelDeployment": Answer(body=tuple(REQUESTS.values()), runs=True),
    "v4ExecuteModelDeployment": _EXECUTED,
    "v4ExecuteModelServer": _EXECUTED,
    "v4ExecuteModelServerByAlias": _EXECUTED,
    "v4UpdateModelServerBackend": _RUNS,
    "v4RollBackModelServer": _RUNS,
    "v4CreateCompletion": _streamed(sgp_v2.CompletionResponse, sgp_v4_execute.CompletionPiece),
    "v4CreateChatCompletion": _NAMED_CHAT,
    "egpV1CreateChatCompletion": _NAMED_CHAT,
    "v4ExecuteAgent": _RUNS,
    "egpV1ExecuteAgent": _RUNS,
    "v4CreateDeploymentCompletion": _TYPED_TEXT,
    "v4CreateDeploymentChatCompletion": _TYPED_TEXT,
    "v4CreateDeploymentEmbeddings": _RUNS,
    "v4CreateDeploymentReranking": _RUNS,
    "v4RankChunks": _RUNS,
    "v2RankChunks": _RUNS,
    "egpV1RankChunks": _RUNS,
    "v4BetaCreateChatCompletion": _streamed(openai_answers.ChatCompletion, openai_answers.ChatCompletionChunk),
    "v4BetaCreateCompletion": _streamed(openai_answers.TextCompletion, openai_answers.TextCompletionChunk),
    "v4BetaCreateFile": _STORES,
    "v4BetaGetFileContent": _FILE,
    "createAsyncTask": _RUNS,
    # SGP: v5
    "v5CreateModel": _RUNS,
    "v5UpdateModel": _RUNS,
    "v5CreateChatCompletion": _streamed(openai_answers.ChatCompletion, openai_answers.ChatCompletionChunk),
    "v5CreateCompletion": _streamed(openai_answers.TextCompletion, openai_answers.TextCompletionChunk),
    "v5CreateResponse": _streamed(openai_response_answers.Response, openai_response_answers.ResponseEvent),
    "v5CreateInference": _streamed(sgp_v5.InferenceResponse, sgp_v5.InferenceResponse),
    "v5CreateFile": _STORES,
    "v5GetFileContent": _FILE,
    "v5ImportCloudFiles": _REFUSES,
    # SGP: fine-tuning
    "v3CreateTrainingDataset": _STORES,
    "v4CreateTrainingDataset": _STORES,
    "v4ListTrainingDatasetContents": Answer(json=list[sgp_training.TrainingDatasetContent]),
    **dict.fromkeys(
        (
            *("v3ListFineTuningJobs", "v3GetFineTuningJob", "v3DeleteFineTuningJob", "v3ListFineTuningEvents"),
            *("v4ListFineTuningJobs", "v4GetFineTuningJob", "v4DeleteFineTuningJob", "v4ListFineTuningEvents"),
        ),
        Answer(optional=True),
    ),
    "v3CreateFineTuningJob": _TRAINS,
    "v4CreateFineTuningJob": _TRAINS,
    "adminPromote": Answer(runs=True, optional=True),
    "adminRollBackPromotion": Answer(runs=True, optional=True),
    # OpenAI
    "openaiListModels": Answer(json=openai_answers.ModelList),
    "openaiGetModel": Answer(json=openai_answers.ModelObject),
    "openaiCreateChatCompletion": _streamed(
        openai_answers.ChatCompletion, openai_answers.ChatCompletionChunk, ends_with_done=True
    ),
    "openaiCreateCompletion": _streamed(
        openai_answers.TextCompletion, openai_answers.TextCompletionChunk, ends_with_done=True
    ),
    "openaiCreateEmbeddings": Answer(json=openai_answers.EmbeddingList, runs=True),
    "openaiCreateResponse": _streamed(openai_response_answers.Response, openai_response_answers.ResponseEvent),
    "openaiCountInputTokens": Answer(json=openai_response_answers.InputTokens, runs=True),
    "rerank": Answer(json=openai_answers.Ranking, runs=True),
    "rerankV2": Answer(json=openai_answers.Ranking, runs=True),
    "tokenize": Answer(json=openai_answers.TokenList, runs=True),
    "detokenize": Answer(json=openai_answers.DetokenizedText, runs=True),
    "openaiCreateFile": Answer(json=batch_answers.FileObject, limited=True),
    "openaiListFiles": Answer(json=batch_answers.FileList),
    "openaiGetFile": Answer(json=batch_answers.FileObject),
    "openaiGetFileContent": _FILE,
    "openaiDeleteFile": Answer(json=batch_answers.FileDeleted),
    "openaiCreateBatch": Answer(json=batch_answers.BatchObject, runs=True),
    "openaiListBatches": Answer(json=batch_answers.BatchList),
    "openaiGetBatch": Answer(json=batch_answers.BatchObject),
    "openaiCancelBatch": Answer(json=batch_answers.BatchObject),
    # Anthropic
    "anthropicCreateMessage": _streamed(anthropic_answers.AnsweredMessage, anthropic_answers.MessageEvent),
    "anthropicCountTokens": Answer(json=anthropic_answers.TokenCount, runs=True),
    # Ollama
    "ollamaVersion": Answer(json=ollama_answers.Version),
    "ollamaListModels": Answer(json=ollama_answers.Tags),
    "ollamaListRunning": Answer(json=ollama_answers.Running),
    "ollamaShowModel": Answer(json=ollama_answers.ShownModel),
    "ollamaChat": _streamed(ollama_answers.ChatAnswer, ollama_answers.ChatAnswer, media_type=LINES),
    "ollamaGenerate": _streamed(ollama_answers.GenerateAnswer, ollama_answers.GenerateAnswer, media_type=LINES),
    "ollamaEmbed": Answer(json=ollama_answers.Embedded, runs=True),
    "ollamaEmbeddings": Answer(json=ollama_answers.EmbeddedOne, runs=True),
    "ollamaPull": _REFUSES,
    "ollamaPush": _REFUSES,
    "ollamaCreate": _REFUSES,
    "ollamaCopy": _REFUSES,
    "ollamaDelete": _REFUSES,
    "ollamaCreateBlob": _REFUSES,
}
"""By operation id."""
