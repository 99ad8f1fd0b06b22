"""Questions answered from a passage: the answer is copied word for word.

Each passage is about invented people, places and things, so nothing can be learnt by heart.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import words
from .words import Split

Json = dict[str, Any]
NOT_THERE = "The passage does not say."


@dataclass(frozen=True)
class Attribute:
    """One thing that a passage can say about its subject: `{e}` is the subject, `{v}` the answer."""

    statements: tuple[str, ...]
    questions: tuple[str, ...]
    make: Callable[[random.Random, Split], str]


def _plain(maker: Callable[[random.Random], object]) -> Callable[[random.Random, Split], str]:
    return lambda rng, _split: str(maker(rng))


def _year(rng: random.Random) -> int:
    return rng.randint(1700, 2030)


def _money(rng: random.Random) -> str:
    return f"{words.number(rng)} {rng.choice(('euros', 'dollars', 'pounds'))}"


def _length(rng: random.Random) -> str:
    return f"{words.number(rng)} {rng.choice(('metres', 'km', 'miles', 'kg', 'hours', 'days'))}"


ATTRIBUTES = (
    Attribute(
        ("{e} is led by {v}.", "{v} leads {e}.", "The leader of {e} is {v}."),
        ("Who leads {e}?", "Who is the leader of {e}?", "Who is {e} led by?"),
        words.person,
    ),
    Attribute(
        ("{e} was founded by {v}.", "{v} founded {e}.", "The founder of {e} is {v}."),
        ("Who founded {e}?", "Who is the founder of {e}?"),
        words.person,
    ),
    Attribute(
        ("{e} was designed by {v}.", "The designer of {e} was {v}."),
        ("Who designed {e}?", "Who was the designer of {e}?"),
        words.person,
    ),
    Attribute(
        ("The contact for {e} is {v}.", "Questions about {e} go to {v}."),
        ("Who is the contact for {e}?", "Who answers questions about {e}?"),
        words.person,
    ),
    Attribute(
        ("{e} is located in {v}.", "{e} is in {v}.", "You can find {e} in {v}."),
        ("Where is {e}?", "Where is {e} located?", "In which place is {e}?", "Where can I find {e}?"),
        words.place,
    ),
    Attribute(
        ("{e} was built in {v}.", "{e} was founded in {v}.", "{e} opened in {v}."),
        ("When was {e} built?", "When did {e} open?", "In which year was {e} founded?"),
        _plain(_year),
    ),
    Attribute(
        ("The deadline for {e} is {v}.", "{e} ends on {v}.", "{e} is due on {v}."),
        ("What is the deadline for {e}?", "When does {e} end?", "When is {e} due?"),
        _plain(words.date),
    ),
    Attribute(
        ("{e} starts at {v}.", "The start time of {e} is {v}."),
        ("When does {e} start?", "What is the start time of {e}?", "At what time does {e} start?"),
        _plain(words.clock),
    ),
    Attribute(
        ("The code of {e} is {v}.", "{e} has the code {v}.", "The access code for {e} is {v}."),
        ("What is the code of {e}?", "Which code does {e} have?", "What is the access code for {e}?"),
        _plain(words.code),
    ),
    Attribute(
        ("{e} costs {v}.", "The price of {e} is {v}.", "You pay {v} for {e}."),
        ("How much does {e} cost?", "What is the price of {e}?", "What does {e} cost?"),
        _plain(_money),
    ),
    Attribute(
        ("{e} is {v} long.", "The length of {e} is {v}."),
        ("How long is {e}?", "What is the length of {e}?"),
        _plain(_length),
    ),
    Attribute(
        ("{e} has {v} members.", "The number of members of {e} is {v}."),
        ("How many members does {e} have?", "What is the number of members of {e}?"),
        _plain(words.number),
    ),
    Attribute(
        ("The colour of {e} is {v}.", "{e} is painted {v}."),
        ("What colour is {e}?", "What is the colour of {e}?"),
        _plain(lambda r: r.choice(words.COLOURS)),
    ),
    Attribute(
        ("The email of {e} is {v}.", "You can write to {e} at {v}."),
        ("What is the email of {e}?", "How can I write to {e}?"),
        words.email,
    ),
    Attribute(
        ("{e} is known for its {v}.", "{e} is famous for its {v}."),
        ("What is {e} known for?", "What is {e} famous for?"),
        words.phrase,
    ),
    Attribute(
        ("{e} was bought by {v}.", "{v} bought {e}.", "The owner of {e} is {v}."),
        ("Who bought {e}?", "Who is the owner of {e}?", "Who owns {e}?"),
        words.title,
    ),
)


def _loose(rng: random.Random, split: Split) -> Attribute:
    """An attribute whose word is itself random, so that matching has to be literal."""
    word = rng.choice(words.NOUNS) if rng.random() < 0.5 else words.invented(rng, split)
    makers = (
        words.title,
        words.person,
        words.place,
        words.phrase,
        _plain(words.code),
        _plain(words.number),
        _plain(words.date),
    )
    statements = (
        f"The {word} of {{e}} is {{v}}.",
        f"{{e}} has {{v}} as its {word}.",
        f"Its {word} is {{v}}.",
        f"For {{e}}, the {word} is {{v}}.",
    )
    questions = (
        f"What is the {word} of {{e}}?",
        f"Which {word} does {{e}} have?",
        f"What is the {word}?",
        f"Tell me the {word} of {{e}}.",
    )
    return Attribute(statements, questions, rng.choice(makers))


def _entity(rng: random.Random, split: Split) -> str:
    """A subject: an invented name, often with a noun."""
    name = words.title(rng, split)
    noun = rng.choice(words.NOUNS)
    return rng.choice((name, name, f"the {name} {noun}", f"the {noun} {name}", f"{noun} {words.code(rng)}"))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


FORMATS = (
    ("user", "Passage: {p}\nQuestion: {q}"),
    ("user", "{p}\n\n{q}"),
    ("user", "Context:\n{p}\n\nQuestion: {q}\nAnswer:"),
    ("user", "Read this: {p} {q}"),
    ("user", "Answer from the text.\nText: {p}\nQuestion: {q}"),
    ("user", "{q}\n\n{p}"),
    ("system", "Answer the question from this passage: {p}"),
    ("system", "Context: {p}"),
    ("system", "Use only this text to answer.\n{p}"),
    ("raw", "Passage: {p}\nQuestion: {q}\nAnswer:"),
)

Fact = tuple[Attribute, str, str]
"""An attribute, its subject and its value."""


def facts(rng: random.Random, split: Split, count: int) -> list[Fact]:
    """`count` statements about one to three subjects; no subject says the same thing twice."""
    subjects = [_entity(rng, split) for _ in range(rng.choice((1, 1, 2, 3)))]
    found: list[Fact] = []
    while len(found) < count:
        attribute = _loose(rng, split) if rng.random() < 0.4 else rng.choice(ATTRIBUTES)
        subject = rng.choice(subjects)
        if all((attribute.questions, subject) != (other.questions, known) for other, known, _ in found):
            found.append((attribute, subject, attribute.make(rng, split)))
    return found


def _usable(patterns: tuple[str, ...], alone: bool) -> tuple[str, ...]:
    """Patterns that name the subject, unless there is only one."""
    return patterns if alone else tuple(pattern for pattern in patterns if "{e}" in pattern)


def passage(rng: random.Random, stated: list[Fact]) -> str:
    """The facts as sentences, with some filler between them."""
    alone = len({subject for _, subject, _ in stated}) == 1
    sentences = []
    for index, (attribute, subject, value) in enumerate(stated):
        patterns = _usable(attribute.statements, alone and index > 0)
        spoken = "it" if alone and index > 0 and rng.random() < 0.3 else subject
        sentences.append(_sentence(rng.choice(patterns).format(e=spoken, v=value)))
        if rng.random() < 0.2:
            sentences.append(_sentence(rng.choice(words.FILLER)) + ".")
    return " ".join(sentences)


def conversation(rng: random.Random, split: Split, most_facts: int = 6) -> Json:
    """One passage and one to three questions on it; answers are exact spans."""
    stated = facts(rng, split, rng.randint(1, most_facts))
    asked = rng.sample(stated, min(len(stated), rng.choice((1, 1, 2, 3)) if split == "train" else 1))
    names = {subject for _, subject, _ in stated}
    turns = []
    for attribute, subject, value in asked:
        unique = sum(other.questions == attribute.questions for other, _, _ in stated) == 1
        question = rng.choice(_usable(attribute.questions, len(names) == 1 and unique)).format(e=subject)
        turns.append((question, value))
    if split == "train" and rng.random() < 0.06:
        attribute = rng.choice(ATTRIBUTES)
        if all(attribute is not other for other, _, _ in stated):
            turns[-1] = (rng.choice(attribute.questions).format(e=rng.choice(sorted(names))), NOT_THERE)
    return _framed(rng, passage(rng, stated), turns)


def _framed(rng: random.Random, text: str, turns: list[tuple[str, str]]) -> Json:
    """The passage and its questions in one of the usual layouts."""
    place, layout = rng.choice(FORMATS)
    question, answer = turns[0]
    if place == "raw":
        return {"prompt": layout.format(p=text, q=question), "completion": " " + answer}
    messages: list[Json] = []
    if place == "system":
        messages.append({"role": "system", "content": layout.format(p=text)})
    first = question if place == "system" else layout.format(p=text, q=question)
    messages += [{"role": "user", "content": first}, {"role": "assistant", "content": answer}]
    for question, answer in turns[1:]:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages}
