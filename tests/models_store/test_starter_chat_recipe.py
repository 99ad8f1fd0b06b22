"""The recipe of starter-chat: same seed, same data; nothing held out is trained on; one chat format everywhere."""

from __future__ import annotations

import json
import random
from itertools import islice

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from models_store.recipes.starter_chat import arithmetic, conversations, facts, grammar, template, tools, words
from models_store.recipes.starter_chat.words import Split

SAMPLES = 1500


def texts(seed: int, split: Split = "train") -> list[str]:
    return [conversations.text(made) for made in islice(conversations.stream(seed, split), SAMPLES)]


@pytest.fixture(scope="module")
def trained_on() -> list[str]:
    return texts(3)


def test_same_seed(trained_on: list[str]) -> None:
    """One seed gives one data set, another seed another."""
    assert texts(3) == trained_on
    assert texts(4) != trained_on


@pytest.mark.parametrize("exercise", conversations.MIX)
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_every_exercise(exercise: str, progress: float) -> None:
    """Every exercise makes samples of every size, and in each the model writes something."""
    rng = random.Random(exercise)
    for _ in range(30):
        made = conversations.sample(rng, exercise, "train", progress)
        assert any(ours and text for text, ours in conversations.segments(made))


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_invented_words_keep_apart(split: Split) -> None:
    """An invented word belongs to exactly one side."""
    rng = random.Random(5)
    made = {words.invented(rng, split) for _ in range(500)}
    assert {words.is_held_out(word) for word in made} == {split == "held_out"}


def test_tool_subjects_keep_apart() -> None:
    """No tool that evaluation offers is about something that a training tool was about."""
    rng = random.Random(6)
    subjects: dict[Split, set[tuple[str, str]]] = {"train": set(), "held_out": set()}
    for split, seen in subjects.items():
        for _ in range(1500):
            made = tools.tool(rng, split)
            seen.add((made.verb, made.thing))
    assert not subjects["train"] & subjects["held_out"]


def test_sums_keep_apart() -> None:
    """A sum is either trained on or asked in the evaluation."""
    rng = random.Random(7)
    asked: dict[Split, set[str]] = {"train": set(), "held_out": set()}
    for split, seen in asked.items():
        for _ in range(1500):
            seen.add(arithmetic.conversation(rng, split)["messages"][1]["content"])
    assert not asked["train"] & asked["held_out"]


def test_held_out_questions_are_new() -> None:
    """No question that evaluation asks is ever asked in training, whatever its pattern."""
    rng = random.Random(8)
    trained = {facts.exchange(rng, "train")[0].lower().strip("?.! ") for _ in range(10_000)}
    asked = {facts.exchange(rng, "held_out")[0].lower().strip("?.! ") for _ in range(2000)}
    assert not trained & asked


def test_held_out_openings_are_new(trained_on: list[str]) -> None:
    """The ways of asking for a tool that evaluation adds never occur in training."""
    for opening in tools.HELD_OUT_OPENINGS:
        start = opening.split("{")[0]
        assert not any(start in text.lower() for text in trained_on)


def test_facts_state_their_phrases() -> None:
    """Each fact's own answer is right by its own criterion, and every fact can be asked in at least five ways."""
    for fact in facts.FACTS:
        assert all(phrase.lower() in fact.answer.lower() for phrase in fact.required)
        assert len(fact.subjects) * len(facts.PATTERNS[fact.patterns]) >= 5


def test_template_equals_training() -> None:
    """The Jinja template in the GGUF renders, in a sandbox, the very characters that training saw."""
    environment = ImmutableSandboxedEnvironment()
    compiled = environment.from_string(template.CHAT_TEMPLATE)
    for made in islice(conversations.stream(9), SAMPLES):
        if "messages" in made:
            assert compiled.render(messages=made["messages"], tools=made.get("tools")) == conversations.text(made)


def test_template_opens_the_answer() -> None:
    """A generation prompt is the conversation so far and the opening of the assistant's turn."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    rendered = ImmutableSandboxedEnvironment().from_string(template.CHAT_TEMPLATE)
    assert rendered.render(messages=messages, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_template_takes_bare_tools() -> None:
    """Tools without parameters or descriptions, and arguments given as an object, render too."""
    call = {"function": {"name": "now", "arguments": {"zone": "UTC"}}}
    messages = [{"role": "user", "content": "Time?"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    offered = [{"type": "function", "function": {"name": "now"}}]
    rendered = (
        ImmutableSandboxedEnvironment().from_string(template.CHAT_TEMPLATE).render(messages=messages, tools=offered)
    )
    assert "<tools>\nnow()\n</tools>" in rendered
    assert '<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call><|im_end|>' in rendered


def offered(name: str, description: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "description": description}}


WEATHER = offered("get_weather", "Get the current weather for a city.")
LOANS = offered("listLoans", "List loans.")
OPAQUE = offered("brilu", "Close the recipe folder.")


@pytest.mark.parametrize(
    ("request_text", "first"),
    [
        ("What is the weather in Paris?", WEATHER),
        ("please list my loan", LOANS),
        ("Any loans?", LOANS),
        ("call brilu", OPAQUE),
        ("close that folder", OPAQUE),
    ],
)
def test_the_likeliest_tool_stands_first(request_text: str, first: dict[str, object]) -> None:
    """By the words that a request shares with a tool's name or description, a plural's too."""
    assert template.ranked(request_text, [OPAQUE, WEATHER, LOANS])[0] is first
    assert template.ranked(request_text, [LOANS, OPAQUE, WEATHER])[0] is first


def test_tools_of_no_shared_word_keep_their_order() -> None:
    """Where the words tell nothing, nothing is moved."""
    given = [OPAQUE, WEATHER, LOANS]
    assert template.ranked("Hello, what can you do for me?", given) == given


def test_only_answers_to_the_last_request_are_learnt() -> None:
    """With tools the earlier turns were written under another order of the tools; without tools all are learnt."""
    talk = [{"role": role, "content": text} for role, text in (
        ("user", "loans?"), ("assistant", "One."), ("user", "weather?"), ("assistant", "Sunny."),
    )]  # fmt: skip
    plain, armed = (template.segments(talk, tools) for tools in (None, [WEATHER, LOANS]))
    assert [text for text, ours in plain if ours] == ["One.<|im_end|>", "Sunny.<|im_end|>"]
    assert [text for text, ours in armed if ours] == ["Sunny.<|im_end|>"]


def test_calls_keep_the_schema_order() -> None:
    """Arguments come in the order of the schema, required ones always, written as json.dumps writes them."""
    rng = random.Random(10)
    for _ in range(300):
        made = tools.conversation(rng, "train")
        listed = {each["function"]["name"]: each["function"]["parameters"] for each in made["tools"]}
        for message in made["messages"]:
            for call in message.get("tool_calls", ()):
                given = json.loads(call["function"]["arguments"])
                parameters = listed[call["function"]["name"]]
                assert list(given) == [name for name in parameters["properties"] if name in given]
                assert set(parameters["required"]) <= set(given)
                assert json.dumps(given, ensure_ascii=False) == call["function"]["arguments"]


def test_grammar_names_every_rule() -> None:
    """Every rule that the evaluation's grammar refers to is defined once."""
    rng = random.Random(11)
    rules = grammar.of_tools([each.as_json() for each in tools.offer(rng, "held_out", 3)])
    heads = [line.split(" ::= ")[0] for line in rules.splitlines() if " ::= " in line]
    assert len(heads) == len(set(heads))
    assert {"root", "call", "content", "string", "integer", "number", "boolean", "t0-0-first", "t2-0-first"} <= set(
        heads
    )
