"""Token ids are those that the engine sees, and only answers are learnt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.domain.inference import ChatRequest, Message
from appliance.engines.llama.chat import Marks, prompt_text
from appliance.engines.llama.examples import Example, Row, Tokenizer
from appliance.engines.llama.runtime import Vocabulary, vocabulary_of
from tests.support.tiny_trainable import write_trainable
from tests.training.tasks import STARTER

TEXTS = (
    "Hello", " two  spaces ", "don't 12345 3.14", "Zürich, naïve café", "日本語", "emoji 🙂🙃", "tabs\tand\n\nlines\n",
    "def f(x):\n    return x**2", "<|im_end|> as text", "a" * 300, "¼ № Ⅳ", "\u200bzero width", "MiXeD", "…—“quotes”",
)  # fmt: skip


@pytest.fixture(scope="module")
def starter() -> Iterator[tuple[Vocabulary, str | None]]:
    with vocabulary_of(STARTER) as found:
        yield found


def one(starter: tuple[Vocabulary, str | None], **row: Any) -> Example:
    (found,) = Tokenizer(*starter).examples(Row(**row))
    return found


@pytest.mark.parametrize("text", TEXTS)
def test_a_prompt_is_tokenized_as_the_engine_does(starter: tuple[Vocabulary, str | None], text: str) -> None:
    """What stands before the answer is, id by id, what the engine makes of the same conversation."""
    vocabulary, template = starter
    found = one(starter, input=text, output="Yes.")
    marks = Marks(vocabulary.text([vocabulary.bos]), vocabulary.text([vocabulary.eos]))
    prompt = prompt_text(ChatRequest(messages=(Message(role="user", content=text),)), template, marks)

    before = found.tokens[~found.learnt][: int(found.learnt.argmax())]

    assert before.tolist() == vocabulary.tokenize(prompt).tolist()
    assert vocabulary.text(found.tokens[found.learnt]) == "Yes.<|im_end|>"


def test_every_answer_of_a_conversation_is_learnt_and_nothing_else(starter: tuple[Vocabulary, str | None]) -> None:
    """Turns of the system and the user, and what the template writes around answers, are not."""
    turns = [
        ("system", "Be brief."),
        ("user", "One?"),
        ("assistant", "First."),
        ("user", "Two?"),
        ("assistant", "Second."),
    ]
    vocabulary, template = starter
    found = one(starter, messages=[{"role": role, "content": content} for role, content in turns])

    assert vocabulary.text(found.tokens[found.learnt]) == "First.<|im_end|>Second.<|im_end|>"
    marks = Marks(vocabulary.text([vocabulary.bos]), vocabulary.text([vocabulary.eos]))
    messages = tuple(Message(role=role, content=content) for role, content in turns[:-1])
    prompt = vocabulary.tokenize(prompt_text(ChatRequest(messages=messages), template, marks)).tolist()
    assert found.tokens[: len(prompt)].tolist() == prompt


def test_a_template_that_rewrites_history_gives_an_example_for_each_answer(
    starter: tuple[Vocabulary, str | None],
) -> None:
    """Thoughts left out of earlier turns: each answer is learnt behind the prompt that the engine would make."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content.split('</think>')[-1] if not loop.last else m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    turns = [("user", "One?"), ("assistant", "<think>hm</think>1"), ("user", "Two?"), ("assistant", "2")]
    row = Row(messages=[{"role": role, "content": content} for role, content in turns])

    found = list(Tokenizer(starter[0], template).examples(row))

    learnt = [starter[0].text(example.tokens[example.learnt]) for example in found]
    assert learnt == ["<think>hm</think>1<|im_end|>", "2<|im_end|>"]
    assert "hm" not in starter[0].text(found[1].tokens)


def test_weights_without_a_template_learn_to_go_on(tmp_path: Path) -> None:
    """A completion: the beginning mark and the input, then the output and the mark that ends it."""
    base = write_trainable(tmp_path / "base.gguf", "llama", chat_template=None)
    with vocabulary_of(base) as (vocabulary, template):
        (found,) = Tokenizer(vocabulary, template).examples(Row(input="in the", output=" end"))

        assert found.tokens[~found.learnt].tolist() == vocabulary.tokenize("in the").tolist()
        assert vocabulary.text(found.tokens[found.learnt]) == " end<|im_end|>"
