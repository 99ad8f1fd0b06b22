"""Items of ``/v1/responses`` as turns, and an answer with every kind of part as items and events."""

from __future__ import annotations

from typing import Any

from appliance.api.openai.responses_input import chat_request
from appliance.api.openai.responses_output import ResponseWriter
from appliance.domain.inference import Delta, FinishReason, Message, ToolCall, Usage
from appliance.engines.parts import AnswerSplitter
from appliance.wire.openai_responses import Item, Part, ResponseCreate

CALL = ToolCall(id="c1", name="add", arguments='{"a": 1}')


def turns(*items: Item) -> tuple[Message, ...]:
    return chat_request(ResponseCreate(model="m", input=list(items)), "account").messages


def said(role: Any, text: str) -> Item:
    return Item(role=role, content=text)


def thought(text: str) -> Item:
    return Item(type="reasoning", content=[Part(type="reasoning_text", text=text)], summary=[])


def called(call_id: str) -> Item:
    return Item(type="function_call", call_id=call_id, name="add", arguments='{"a": 1}')


def gave(call_id: str, output: str) -> Item:
    return Item(type="function_call_output", call_id=call_id, output=output)


def test_what_an_assistant_did_at_once_is_one_turn() -> None:
    """Thoughts, words and calls are one message, as chat templates have it; the tools' answers follow by name."""
    found = turns(
        said("user", "1+1?"),
        thought("add"),
        said("assistant", "I add."),
        called("c1"),
        called("c2"),
        gave("c1", "2"),
        gave("c2", "2"),
        said("assistant", "2"),
        said("assistant", "Really."),
    )
    assert found == (
        Message(role="user", content="1+1?"),
        Message(
            role="assistant",
            content="I add.",
            reasoning="add",
            tool_calls=(CALL, ToolCall(id="c2", name="add", arguments='{"a": 1}')),
        ),
        Message(role="tool", content="2", tool_call_id="c1", name="add"),
        Message(role="tool", content="2", tool_call_id="c2", name="add"),
        Message(role="assistant", content="2"),
        Message(role="assistant", content="Really."),
    )


def test_thoughts_belong_to_what_follows() -> None:
    """Those that led to nothing are left out, and do not cling to somebody else's turn."""
    found = turns(said("user", "a"), thought("lost"), said("user", "b"), thought("kept"), called("c1"), gave("c1", "2"))
    assert [message.reasoning for message in found] == [None, None, "kept", None]


ANSWER = (
    "<think>which?</think>\n\nI add.\n"
    '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n'
    '<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call>'
)


def written(text: str, reason: FinishReason, cut_into: int) -> list[dict[str, Any]]:
    """The events of an answer that comes in pieces of so many characters."""
    writer = ResponseWriter(ResponseCreate(model="m", input="x"), 1, AnswerSplitter(thoughts=True, calls=True))
    events = list(writer.begin())
    for start in range(0, len(text), cut_into):
        events += writer.feed(Delta(text=text[start : start + cut_into]))
    events += writer.feed(Delta(finish_reason=reason))
    return events + list(writer.end(reason, Usage(prompt_tokens=1, response_tokens=2, reasoning_tokens=1), 2))


def test_every_kind_of_part_is_an_item() -> None:
    """Thoughts, words and two calls are four items in their order, however the answer was cut on its way."""
    for cut_into in (1, 7, 1000):
        events = written(ANSWER, FinishReason.STOP, cut_into)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        response = events[-1]["response"]
        assert (events[-1]["type"], response["status"]) == ("response.completed", "completed")
        assert [item["type"] for item in response["output"]] == [
            "reasoning",
            "message",
            "function_call",
            "function_call",
        ]
        reasoning, message, first, second = response["output"]
        assert reasoning["content"] == [{"type": "reasoning_text", "text": "which?"}]
        assert message["content"][0]["text"] == "I add."
        assert [first["arguments"], second["arguments"]] == ['{"a": 1}', '{"a": 2}']
        assert first["call_id"] != second["call_id"]
        assert response["usage"]["output_tokens_details"] == {"reasoning_tokens": 1}


def test_deltas_of_an_item_join_to_it() -> None:
    """Each item is added, grows by its deltas, and is done under the same number and id."""
    events = written(ANSWER, FinishReason.STOP, 3)
    for number, item in enumerate(events[-1]["response"]["output"]):
        mine = [event for event in events if event.get("output_index") == number]
        assert mine[0]["type"] == "response.output_item.added"
        assert mine[-1] == {**mine[-1], "type": "response.output_item.done", "item": item}
        assert {event["item_id"] for event in mine if "item_id" in event} == {item["id"]}
        grown = "".join(event.get("delta", "") for event in mine)
        assert grown == item.get("arguments", "") + "".join(part["text"] for part in item.get("content", []))


def test_an_answer_cut_inside_a_call_is_incomplete() -> None:
    """Neither the response nor the call passes for whole; the items before it are."""
    *_, last = written(ANSWER[:-20], FinishReason.LENGTH, 5)
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in last["response"]["output"]] == ["completed"] * 3 + ["incomplete"]


def test_an_answer_without_a_word_is_a_message() -> None:
    """So that whoever reads the text finds an empty one."""
    *_, last = written("", FinishReason.STOP, 1)
    (message,) = last["response"]["output"]
    assert (message["type"], message["content"][0]["text"]) == ("message", "")
