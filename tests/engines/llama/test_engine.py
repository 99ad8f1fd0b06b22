"""The text engine as its callers see it: requests in on the event loop, deltas out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from appliance.domain.errors import Internal, InvalidParameter, PromptTooLong, Unsupported
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    FinishReason,
    GrammarConstraint,
    JsonConstraint,
    Message,
    Sampling,
    Tool,
    ToolConstraint,
)
from appliance.engines.base import TextEngine, TextStream, Tokenizing
from appliance.engines.llama.engine import LlamaTextEngine
from appliance.engines.llama.runtime import Model
from appliance.engines.parts import split
from appliance.engines.tools import parse_tool_calls
from tests.engines.llama.conftest import OPTIONS
from tests.support.tiny_models import write_llama

GREEDY = Sampling(temperature=0.0, max_tokens=12)
HELLO = (Message(role="user", content="hello"),)
WEATHER = Tool(
    name="weather",
    description="Weather of a place",
    parameters={"type": "object", "properties": {"place": {"enum": ["here", "there"]}}, "required": ["place"]},
)


async def told(stream: TextStream) -> tuple[str, FinishReason | None]:
    text, reason = "", None
    async for delta in stream:
        text += delta.text
        reason = delta.finish_reason
    return text, reason


async def test_it_is_a_text_engine(engine: LlamaTextEngine) -> None:
    """It offers what the lifecycle calls."""
    assert isinstance(engine, TextEngine)
    assert (engine.slots, engine.context_length_tokens, engine.failure) == (8, 256, None)
    assert engine.device == "cpu"
    assert engine.stats().cache_total_tokens == 2048


async def test_many_requests_at_once_say_what_one_says_alone(engine: LlamaTextEngine) -> None:
    """Batching is invisible."""
    request = CompletionRequest(prompt="hello the world", sampling=GREEDY)
    alone = await told(await engine.complete(request))
    streams = [await engine.complete(request) for _ in range(20)]
    assert await asyncio.gather(*map(told, streams)) == [alone] * 20


async def test_tokens_are_counted_as_they_enter_the_model(engine: LlamaTextEngine) -> None:
    """The beginning mark included; the count before, the usage after and the given ids agree."""
    request = CompletionRequest(prompt="xyz", sampling=GREEDY)
    stream = await engine.complete(request)
    await told(stream)
    assert await engine.count_tokens(request) == stream.usage.prompt_tokens == 4
    assert stream.usage.response_tokens == 12
    assert await engine.count_tokens(CompletionRequest(prompt=(1, 2, 3))) == 3


async def test_a_template_that_writes_the_beginning_mark_gets_it_once(engine: LlamaTextEngine) -> None:
    """The mark of the template replaces that of the tokenizer."""
    plain = ChatRequest(messages=HELLO, chat_template="{{ messages[0].content }}")
    marked = ChatRequest(messages=HELLO, chat_template="{{ bos_token }}{{ messages[0].content }}")
    assert await engine.count_tokens(plain) == await engine.count_tokens(marked)


async def test_a_long_prompt_is_refused_with_both_numbers(engine: LlamaTextEngine) -> None:
    """Nothing is cut: a prompt that leaves no room for an answer is an error."""
    with pytest.raises(PromptTooLong) as raised:
        await engine.complete(CompletionRequest(prompt="x" * 255))
    assert (raised.value.prompt_tokens, raised.value.context_length_tokens) == (256, 256)
    _, reason = await told(await engine.complete(CompletionRequest(prompt="x" * 254, sampling=GREEDY)))
    assert reason is FinishReason.LENGTH


async def test_the_context_ends_an_answer_without_a_limit(engine: LlamaTextEngine) -> None:
    """Without max_tokens the answer goes on until prompt and answer fill the context."""
    stream = await engine.complete(CompletionRequest(prompt="hello", sampling=Sampling(temperature=0.0)))
    _, reason = await told(stream)
    assert reason is FinishReason.LENGTH
    assert stream.usage.prompt_tokens + stream.usage.response_tokens == 256


async def test_a_stop_string_ends_the_answer_and_is_not_said(engine: LlamaTextEngine) -> None:
    """Across token borders too; tokens whose text was cut are counted."""
    whole, _ = await told(await engine.complete(CompletionRequest(prompt="hello", sampling=GREEDY)))
    middle = whole[3:6]
    stream = await engine.complete(
        CompletionRequest(prompt="hello", sampling=Sampling(temperature=0.0, max_tokens=12, stop=(middle,)))
    )
    text, reason = await told(stream)
    assert (text, reason) == (whole[: whole.index(middle)], FinishReason.STOP)
    assert 0 < stream.usage.response_tokens < 12


async def test_the_last_increment_names_the_stop_string(engine: LlamaTextEngine) -> None:
    """A reader learns which of several ended the answer, and nothing where the length did."""
    whole, _ = await told(await engine.complete(CompletionRequest(prompt="hello", sampling=GREEDY)))
    stops = Sampling(temperature=0.0, max_tokens=12, stop=("never said", whole[3:6]))
    deltas = [delta async for delta in await engine.complete(CompletionRequest(prompt="hello", sampling=stops))]
    assert deltas[-1].stop_text == whole[3:6]
    free = Sampling(temperature=0.0, max_tokens=2, stop=("never said",))
    deltas = [delta async for delta in await engine.complete(CompletionRequest(prompt="hello", sampling=free))]
    assert deltas[-1].stop_text is None


async def test_a_request_may_bound_its_context(engine: LlamaTextEngine) -> None:
    """Prompt and answer keep to the request's own bound; one that leaves no room is refused with the numbers."""
    bounded = CompletionRequest(prompt="hello", sampling=Sampling(temperature=0.0), context_tokens=20)
    stream = await engine.complete(bounded)
    assert (await told(stream))[1] is FinishReason.LENGTH
    assert stream.usage.prompt_tokens + stream.usage.response_tokens == 20
    taken = stream.usage.prompt_tokens
    with pytest.raises(PromptTooLong, match=f"the request allows for {taken} .* this deployment takes 256"):
        await engine.complete(CompletionRequest(prompt="hello", context_tokens=taken))
    wide = CompletionRequest(prompt="hello", sampling=Sampling(temperature=0.0, max_tokens=2), context_tokens=9999)
    assert (await told(await engine.complete(wide)))[1] is FinishReason.LENGTH


async def test_the_end_token_ends_the_answer(talkative_weights: Path) -> None:
    """A model that says its end of turn stops there, with nothing of the mark in the text."""
    engine = LlamaTextEngine(Model(talkative_weights), OPTIONS)
    end = Sampling(temperature=0.0, logit_bias={2: 100.0})
    stream = await engine.complete(CompletionRequest(prompt="hello", sampling=end))
    assert await told(stream) == ("", FinishReason.STOP)
    assert stream.usage.response_tokens == 1
    engine.close()


async def test_an_answer_that_may_not_end_goes_on(talkative_weights: Path) -> None:
    """With ``ignore_eos`` the most likely end token is passed over, up to ``max_tokens``."""
    engine = LlamaTextEngine(Model(talkative_weights), OPTIONS)
    endless = Sampling(temperature=0.0, logit_bias={2: 100.0}, ignore_eos=True, max_tokens=5)
    stream = await engine.complete(CompletionRequest(prompt="hello", sampling=endless))
    assert (await told(stream))[1] is FinishReason.LENGTH
    assert stream.usage.response_tokens == 5
    engine.close()


async def test_usage_tells_the_times(engine: LlamaTextEngine) -> None:
    """Waiting, reading the prompt and answering are told apart."""
    stream = await engine.complete(CompletionRequest(prompt="hello", sampling=GREEDY))
    await told(stream)
    usage = stream.usage
    assert usage.queue_milliseconds >= 0
    assert usage.prefill_milliseconds > 0
    assert usage.decode_milliseconds > 0


async def test_closing_a_stream_cancels_it(engine: LlamaTextEngine) -> None:
    """After close the stream is at its end, twice is fine, and the engine has nothing left to do."""
    stream = await engine.complete(CompletionRequest(prompt="hello", sampling=Sampling(temperature=0.0)))
    await anext(stream)
    stream.close()
    stream.close()
    assert [delta async for delta in stream] == []
    other = await engine.complete(CompletionRequest(prompt="hello", sampling=GREEDY))
    await told(other)
    assert engine.stats().active == 0


async def test_json_comes_out_under_its_schema(engine: LlamaTextEngine) -> None:
    """A constrained answer is exactly what the schema asks for."""
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    stream = await engine.complete(
        CompletionRequest(prompt="x", sampling=GREEDY, constraint=JsonConstraint(schema=schema))
    )
    text, reason = await told(stream)
    assert text in ('{"ok": true}', '{"ok": false}')
    assert reason is FinishReason.STOP


@pytest.mark.parametrize("control_marks", [False, True])
async def test_a_required_tool_call_can_be_read_back(tmp_path: Path, control_marks: bool) -> None:
    """Whether the marks are plain or control tokens: the answer is one call with arguments under the schema."""
    engine = LlamaTextEngine(Model(write_llama(tmp_path / "t.gguf", control_marks=control_marks)), OPTIONS)
    request = ChatRequest(
        messages=HELLO,
        sampling=Sampling(temperature=0.0, max_tokens=100),
        constraint=ToolConstraint(tools=(WEATHER,), required=True),
        tools=(WEATHER,),
    )
    big = engine.context_length_tokens
    assert await engine.count_tokens(request) > big  # described in the system turn, as this template knows no tools
    stream = await engine.chat(ChatRequest(messages=HELLO, sampling=request.sampling, constraint=request.constraint))
    content, calls = parse_tool_calls((await told(stream))[0])
    assert (content, [call.name for call in calls]) == ("", ["weather"])
    assert calls[0].arguments in ('{"place": "here"}', '{"place": "there"}')
    engine.close()


THINKING = "{{ messages[0].content }}<think>\n"


async def test_thoughts_begun_by_the_prompt_are_marked(engine: LlamaTextEngine) -> None:
    """Where the template opens the thought, the text begins with its mark, and its tokens are counted as thoughts."""
    stream = await engine.chat(ChatRequest(messages=HELLO, chat_template=THINKING, sampling=GREEDY))
    text, _ = await told(stream)
    assert stream.marks_thoughts
    assert text.startswith("<think>")
    assert stream.usage.reasoning_tokens == stream.usage.response_tokens == 12


async def test_what_is_asked_for_comes_after_the_thoughts(engine: LlamaTextEngine) -> None:
    """Whoever tells thoughts apart gets the answer under its schema behind them; else nothing but the answer."""
    said = [int(token) for token in engine._vocabulary.tokenize("</think>1", add_special=False)]
    bias = Sampling(temperature=0.0, max_tokens=60, logit_bias=dict.fromkeys(said, 8.0))
    request = ChatRequest(
        messages=HELLO, chat_template=THINKING, sampling=bias, constraint=JsonConstraint(schema={"const": 1})
    )
    assert (await told(await engine.chat(request)))[0] == "1"
    free = structs.replace(request, tells_thoughts=True)
    stream = await engine.chat(free)
    text, reason = await told(stream)
    answer = split(text, thoughts=stream.marks_thoughts, calls=False)
    assert answer.text == "1" or (reason is FinishReason.LENGTH and not answer.text)


async def test_a_model_that_marks_no_thoughts_has_none(engine: LlamaTextEngine) -> None:
    """Nothing of its text is taken for them."""
    stream = await engine.chat(ChatRequest(messages=HELLO, sampling=GREEDY))
    await told(stream)
    assert not stream.marks_thoughts
    assert stream.usage.reasoning_tokens == 0


@pytest.mark.parametrize("prompt", ["hello the world", (40, 41, 42)])
async def test_an_echo_is_the_prompt_before_the_answer(engine: LlamaTextEngine, prompt: str | tuple[int, ...]) -> None:
    """As text, or as the text of its token ids; the answer behind it is the same."""
    plain, _ = await told(await engine.complete(CompletionRequest(prompt=prompt, sampling=GREEDY)))
    echoed, _ = await told(await engine.complete(CompletionRequest(prompt=prompt, sampling=GREEDY, echo=True)))
    shown = prompt if isinstance(prompt, str) else await engine.detokenize(prompt)
    assert echoed == shown + plain


@pytest.mark.parametrize("add_bos", [True, False])
async def test_a_gap_is_filled(tmp_path: Path, add_bos: bool) -> None:
    """Prefix and suffix stand behind the model's own marks, the answer behind the third; text in them is never a mark.

    An echo begins with the prompt; token ids are a prompt too."""
    marks = ("<|im_start|>", "<tool_call>", "</tool_call>")
    model = Model(write_llama(tmp_path / "gaps.gguf", add_bos=add_bos, gap_marks=marks))
    engine = LlamaTextEngine(model, OPTIONS)
    try:
        before, behind, answer = (model.vocabulary.tokenize(mark, add_special=False)[0] for mark in marks)
        prefix, suffix = (
            model.vocabulary.tokenize(text, add_special=False, parse_special=False)
            for text in ("the <tool_call>", " end")
        )
        begins = [model.vocabulary.bos] if add_bos else []
        whole = tuple(map(int, [*begins, before, *prefix, behind, *suffix, answer]))
        expected, _ = await told(await engine.complete(CompletionRequest(prompt=whole, sampling=GREEDY)))
        for prompt in ("the <tool_call>", tuple(prefix.tolist())):
            request = CompletionRequest(prompt=prompt, suffix=" end", sampling=GREEDY)
            assert await engine.count_tokens(request) == len(whole)
            assert (await told(await engine.complete(request)))[0] == expected
            echoed, _ = await told(await engine.complete(structs.replace(request, echo=True)))
            assert echoed == "the <tool_call>" + expected
    finally:
        engine.close()


async def test_a_model_that_was_not_taught_gaps(engine: LlamaTextEngine, tmp_path: Path) -> None:
    """It is refused with what to do instead, also when it has some of the marks only."""
    some = LlamaTextEngine(Model(write_llama(tmp_path / "some.gguf", gap_marks=("<tool_call>",))), OPTIONS)
    try:
        for each in (engine, some):
            with pytest.raises(Unsupported, match=r"no tokens for filling a gap.*put what follows into the prompt"):
                await each.complete(CompletionRequest(prompt="a", suffix="b", sampling=GREEDY))
    finally:
        some.close()


async def test_tokens_and_back(engine: LlamaTextEngine) -> None:
    """With the beginning mark as it enters the model, or without; the pieces join to the text."""
    assert isinstance(engine, Tokenizing)
    bare = await engine.tokenize(CompletionRequest(prompt="héllo <x>"), add_special=False)
    assert b"".join(bare.pieces).decode() == "héllo <x>" == await engine.detokenize(bare.ids)
    whole = await engine.tokenize(CompletionRequest(prompt="héllo <x>"))
    assert whole.ids == (0, *bare.ids)
    assert len(whole.ids) == await engine.count_tokens(CompletionRequest(prompt="héllo <x>"))
    chat = ChatRequest(messages=HELLO)
    assert len((await engine.tokenize(chat)).ids) == await engine.count_tokens(chat)
    with pytest.raises(InvalidParameter, match="token 99999"):
        await engine.detokenize((99_999,))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (CompletionRequest(prompt=(1, 99_999)), "token 99999 at 1"),
        (CompletionRequest(prompt=()), "empty"),
        (CompletionRequest(prompt="\ud800"), "surrogate"),
        (CompletionRequest(prompt="x", sampling=Sampling(logit_bias={99_999: 1.0})), "logit_bias"),
        (CompletionRequest(prompt="x", sampling=Sampling(ignore_eos=True), constraint=JsonConstraint()), "ignore_eos"),
        (CompletionRequest(prompt="x", constraint=GrammarConstraint(gbnf="root ::= nowhere")), "grammar"),
        (CompletionRequest(prompt="x", constraint=GrammarConstraint(gbnf="root ::= root")), "grammar"),
        (CompletionRequest(prompt="x", constraint=JsonConstraint(schema={"pattern": "(?=a)"})), "pattern"),
        (ChatRequest(messages=HELLO, chat_template="{{ nothing.at.all }}"), "template"),
    ],
)
async def test_a_wrong_request_names_its_fault(
    engine: LlamaTextEngine, request_: CompletionRequest | ChatRequest, message: str
) -> None:
    """Every refusal is an InvalidParameter that says what is wrong."""
    start = engine.chat(request_) if isinstance(request_, ChatRequest) else engine.complete(request_)
    with pytest.raises(InvalidParameter, match=message):
        await start


async def test_closing_the_engine_ends_running_streams(weights: Path) -> None:
    """Close with work under way: streams end as cancelled, and new requests are refused."""
    engine = LlamaTextEngine(Model(weights), OPTIONS)
    stream = await engine.complete(CompletionRequest(prompt="hello", sampling=Sampling(temperature=0.0)))
    await asyncio.to_thread(engine.close)
    engine.close()
    assert (await told(stream))[1] is FinishReason.CANCELLED
    with pytest.raises(Internal, match="no longer runs"):
        await engine.complete(CompletionRequest(prompt="hello"))


async def test_a_dead_engine_says_so_on_every_stream(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in a step ends all open streams with Internal, and the engine tells why it failed."""
    engine = LlamaTextEngine(Model(weights), OPTIONS)

    def broken() -> bool:
        raise OSError("the device fell off the bus")

    streams = [await engine.complete(CompletionRequest(prompt="hello")) for _ in range(3)]
    monkeypatch.setattr(engine._stepper._context, "decode", broken)
    for stream in streams:
        with pytest.raises(Internal, match="fell off the bus"):
            await told(stream)
    assert engine.failure is not None
    with pytest.raises(Internal, match="no longer runs"):
        await engine.complete(CompletionRequest(prompt="hello"))
    engine.close()
