"""What the playground remembers and measures: the turns of a conversation, its settings, the pace of an answer.

Pure values: no Textual, no HTTP. Times come from the clock that the screen injects.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from appliance.wire import sgp_v3
from appliance.wire.limits import MaxTokens, Temperature, Text
from tui.records import TokenCount


class Settings(Struct, frozen=True, kw_only=True):
    """How the playground asks. ``max_tokens`` None: as many as the context leaves."""

    temperature: Temperature = 0.2
    max_tokens: MaxTokens | None = 256
    system: Text = ""
    tools: list[sgp_v3.Tool] = field(default_factory=list)
    """What an agent may ask for."""

    def sampling(self) -> dict[str, Any]:
        """Fields that chat and completion share."""
        fields: dict[str, Any] = {"temperature": self.temperature}
        return fields if self.max_tokens is None else {**fields, "max_tokens": self.max_tokens}


class Conversation:
    """Turns so far. An agent that asked for a tool gets the next text as that tool's result."""

    def __init__(self) -> None:
        self.turns: list[sgp_v3.Message] = []

    @property
    def awaited_tool(self) -> str | None:
        """Tool whose result the agent waits for."""
        last = self.turns[-1] if self.turns else None
        return last.tool_request.name if last is not None and last.tool_request is not None else None

    def say(self, text: str) -> None:
        """Add what the operator typed."""
        tool = self.awaited_tool
        role = (
            sgp_v3.Message(role="tool", content=text, name=tool) if tool else sgp_v3.Message(role="user", content=text)
        )
        self.turns.append(role)

    def answer(self, text: str) -> None:
        """Add what the model answered."""
        self.turns.append(sgp_v3.Message(role="assistant", content=text))

    def agent_action(self, result: sgp_v3.AgentResult) -> None:
        """Add what an agent answered or wants run."""
        context = result.context
        self.turns.append(sgp_v3.Message(role="agent", content=context.content, tool_request=context.tool_request))

    def take_back(self) -> None:
        """Forget the last turn: its request failed."""
        if self.turns:
            self.turns.pop()

    def chat_body(self, model: str, settings: Settings) -> dict[str, Any]:
        """Body for ``/v1/chat/completions``."""
        messages = [{"role": "system", "content": settings.system}] if settings.system else []
        messages += [{"role": turn.role, "content": turn.content or ""} for turn in self.turns]
        return {"model": model, "messages": messages, **settings.sampling()}

    def agent_body(self, settings: Settings) -> sgp_v3.AgentExecute:
        """Body for one step of an agent."""
        instructions: dict[str, Any] = {"instructions": settings.system} if settings.system else {}
        return sgp_v3.AgentExecute(messages=self.turns, tools=settings.tools, **instructions)


class Pace(Struct, kw_only=True):
    """Times of one answer, in seconds of the injected clock."""

    began: float
    first_text: float | None = None
    last_text: float | None = None
    pieces: int = 0
    """Chunks with text: an estimate of the tokens until the server's count arrives."""
    usage: TokenCount | None = None
    finish_reason: str | None = None

    def heard(self, now: float) -> None:
        """A chunk with text arrived."""
        self.first_text = now if self.first_text is None else self.first_text
        self.last_text = now
        self.pieces += 1

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens after the first over the time they took; None before there are two."""
        tokens = self.usage.completion_tokens if self.usage else self.pieces
        if self.first_text is None or self.last_text is None or self.last_text <= self.first_text or tokens < 2:
            return None
        return (tokens - 1) / (self.last_text - self.first_text)

    def summary(self) -> str:
        """One line: time to the first token, tokens a second, counts, reason of the end."""
        parts = []
        if self.first_text is not None:
            parts.append(f"first token {(self.first_text - self.began) * 1000:.0f} ms")
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:.1f} tokens/s")
        if self.usage is not None:
            cached = f" ({self.usage.cached_tokens} cached)" if self.usage.cached_tokens else ""
            parts.append(f"{self.usage.prompt_tokens}{cached} in, {self.usage.completion_tokens} out")
        if self.finish_reason:
            parts.append(self.finish_reason)
        return " · ".join(parts)
