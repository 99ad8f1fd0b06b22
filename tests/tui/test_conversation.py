"""What the playground remembers, and how it measures the pace of an answer."""

from __future__ import annotations

import pytest

from appliance.wire import sgp_v3
from tui.conversation import Conversation, Pace, Settings
from tui.records import TokenCount


class TestConversation:
    """The turns and the bodies made from them."""

    def test_chat(self) -> None:
        """A chat request carries the system message, all turns, and the settings."""
        conversation = Conversation()
        conversation.say("Hello")
        conversation.answer("Hi")
        conversation.say("And now?")
        body = conversation.chat_body("dep-1", Settings(temperature=0.5, max_tokens=None, system="Be short."))
        assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
        assert (body["model"], body["temperature"], "max_tokens" in body) == ("dep-1", 0.5, False)

    def test_failed_question(self) -> None:
        """A question whose request failed is forgotten."""
        conversation = Conversation()
        conversation.say("Hello")
        conversation.take_back()
        assert conversation.turns == []

    def test_tool_result(self) -> None:
        """What is typed after an agent asked for a tool is that tool's result."""
        conversation = Conversation()
        conversation.say("What is the weather in Oslo?")
        request = sgp_v3.ToolRequest(name="weather", arguments='{"city": "Oslo"}')
        context = sgp_v3.ActionContext(tool_request=request)
        conversation.agent_action(sgp_v3.AgentResult(action="tool_request", context=context))
        assert conversation.awaited_tool == "weather"
        conversation.say("4 degrees")
        assert (conversation.turns[-1].role, conversation.turns[-1].name) == ("tool", "weather")
        assert conversation.awaited_tool is None

    def test_agent(self) -> None:
        """An agent gets the system message as its instructions."""
        conversation = Conversation()
        conversation.say("Hello")
        assert conversation.agent_body(Settings(system="Be short.")).instructions == "Be short."


class TestPace:
    """Times of an answer."""

    def test_before_the_first_token(self) -> None:
        """Nothing is claimed before there is something to measure."""
        assert Pace(began=1.0).summary() == ""

    def test_whole_answer(self) -> None:
        """Speed counts the tokens after the first; the server's count wins over the number of pieces."""
        pace = Pace(began=1.0)
        for moment in (1.25, 2.25, 3.25):
            pace.heard(moment)
        assert pace.tokens_per_second == pytest.approx(1.0)
        pace.usage = TokenCount(prompt_tokens=24, completion_tokens=21)
        pace.finish_reason = "stop"
        assert pace.summary() == "first token 250 ms · 10.0 tokens/s · 24 in, 21 out · stop"
