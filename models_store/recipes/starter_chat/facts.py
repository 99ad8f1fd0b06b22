"""What the small model knows: the appliance's words, how to do things with it, manners, and where its knowledge ends.

A `Fact` has one answer, the phrases a right answer must contain, and the subjects people ask about. Questions are
made from patterns; some patterns, and some subjects' wordings, are kept out of training so that evaluation can
ask what was never asked.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import words
from .words import Split

Json = dict[str, Any]


@dataclass(frozen=True)
class Fact:
    """One thing the model can say."""

    answer: str
    required: tuple[str, ...]
    """Phrases that a right answer contains, letter case ignored."""
    patterns: str
    """Which set of question patterns fits: `what`, `how` or `plain`."""
    subjects: tuple[str, ...]
    """Wordings that fill a pattern; for `plain` they are whole questions."""
    held_out: tuple[str, ...] = ()
    """Wordings kept for evaluation."""


PATTERNS: dict[str, tuple[str, ...]] = {
    "what": (
        "What is {}?",
        "What's {}?",
        "what is {}",
        "Explain {}.",
        "Can you explain {}?",
        "Tell me about {}.",
        "What does {} mean?",
        "Please explain what {} is.",
        "I do not know what {} is.",
        "Define {}.",
        "Could you tell me what {} is?",
        "{}?",
        "What do you call {}?",
        "Describe {}.",
        "What exactly is {}?",
        "What is meant by {}?",
        "I have a question: what is {}?",
        "What is {} for?",
        "what does {} do?",
        "Give me a definition of {}.",
        "How would you describe {}?",
        "In this appliance, what is {}?",
        "{} - what is that?",
        "What is {} in simple words?",
    ),
    "how": (
        "How do I {}?",
        "How can I {}?",
        "how to {}",
        "How to {}?",
        "I want to {}.",
        "I want to {}. How?",
        "What is the command to {}?",
        "Please tell me how to {}.",
        "Can you show me how to {}?",
        "What do I do to {}?",
        "I need to {}.",
        "Which command do I use to {}?",
        "how do you {}",
        "Is there a way to {}?",
        "Explain how to {}.",
        "Can I {}?",
        "How does one {}?",
        "Tell me how to {}.",
        "What should I type to {}?",
        "I would like to {}.",
        "We need to {}, how does that work?",
        "how can we {}",
        "Could you tell me how I can {}?",
    ),
    "plain": ("{}",),
}

HELD_OUT_PATTERNS: dict[str, tuple[str, ...]] = {
    "what": (
        "Would you please explain {} to me?",
        "I am new here, so what is {}?",
        "Help me understand {}.",
        "Quick question about {}: what is it?",
        "So what is {} actually?",
        "I keep reading about {}. What is it?",
    ),
    "how": (
        "What are the steps to {}?",
        "Help me {}.",
        "My boss asked me to {}, what now?",
        "Show me the way to {}.",
        "I am trying to {}, any hints?",
        "What is the right way to {}?",
    ),
    "plain": ("Another question: {}", "{} I would like to know.", "May I ask: {}", "Please answer: {}"),
}

REFUSAL = (
    "I am a small starter model and do not know that. Import a larger model with: appliance models import FILE --name N"
)


def _read() -> dict[str, tuple[Fact, ...]]:
    """The facts by section of `facts.toml`."""
    sections = tomllib.loads((Path(__file__).parent / "facts.toml").read_text(encoding="utf-8"))
    return {
        name: tuple(
            Fact(
                each["answer"],
                tuple(each["phrases"]),
                each["patterns"],
                tuple(each["subjects"]),
                tuple(each.get("held_out", ())),
            )
            for each in listed
        )
        for name, listed in sections.items()
    }


_SECTIONS = _read()
CONCEPTS, HOW_TO, MANNERS = _SECTIONS["concepts"], _SECTIONS["how_to"], _SECTIONS["manners"]

_OPEN = (
    "Who won the {n} in {y}?",
    "What is the capital of {c}?",
    "Write a poem about {n}s.",
    "Tell me a joke about {n}s.",
    "Who is {p}?",
    "What is the population of {c}?",
    "Write a story about a {a} {n}.",
    "Who wrote the {n}?",
    "Why is the {n} {o}?",
    "Translate {n} to French.",
    "What is the history of {c}?",
    "Write Python code for a {n}.",
    "What is the best {n} in {t}?",
    "What do you think about {p}?",
    "Who is the president of {c}?",
    "What happened in {y}?",
    "Give me a recipe for {n} soup.",
    "How far is {t} from {u}?",
    "How old is {p}?",
    "What is the meaning of life?",
    "Summarize the news.",
    "What will the stock price of {w} be?",
    "Explain quantum physics.",
    "Recommend a {n}.",
    "Is {c} bigger than {d}?",
    "Who invented the {n}?",
    "How do I cook a {n}?",
    "write an essay about {c}",
    "When was {p} born?",
)
_OPEN_HELD_OUT = (
    "Who discovered the {n}?",
    "Write a song about {c}.",
    "What language do they speak in {c}?",
    "How tall is {p}?",
    "Which {n} is the best?",
    "Tell me a story about {t}.",
)


def open_question(rng: random.Random, split: Split) -> str:
    """A question about the wide world, which the model must decline."""
    pattern = rng.choice(_OPEN if split == "train" else _OPEN_HELD_OUT)
    cities, countries = rng.sample(words.CITIES, 2), rng.sample(words.COUNTRIES, 2)
    person = f"{rng.choice(words.FIRST_NAMES)} {rng.choice(words.LAST_NAMES)}"
    filled = pattern.format(
        n=rng.choice(words.NOUNS),
        y=rng.randint(1800, 2030),
        p=person,
        a=rng.choice(words.ADJECTIVES),
        o=rng.choice(words.COLOURS),
        c=countries[0],
        d=countries[1],
        t=cities[0],
        u=cities[1],
        w=words.title(rng, split),
    )
    return filled.lower() if rng.random() < 0.1 else filled


def _question(rng: random.Random, fact: Fact, split: Split) -> str:
    """One way to ask for a fact; a held-out one uses a pattern or a wording that training never sees."""
    if split == "train":
        pattern, subject = rng.choice(PATTERNS[fact.patterns]), rng.choice(fact.subjects)
    elif fact.held_out and rng.random() < 0.6:
        pattern, subject = rng.choice(PATTERNS[fact.patterns]), rng.choice(fact.held_out)
    else:
        pattern, subject = rng.choice(HELD_OUT_PATTERNS[fact.patterns]), rng.choice(fact.subjects)
    return pattern.format(subject)


_PREFIXES = (
    "Hi! ",
    "Hello, ",
    "Hey, ",
    "Sorry, ",
    "One more thing: ",
    "Now, ",
    "Ok. ",
    "And ",
    "Excuse me, ",
    "Well, ",
)
_SUFFIXES = (
    " Thank you.",
    " please",
    " I am not sure.",
    " Thanks",
    " Please help.",
    " Just curious.",
    " Can you help?",
)


def _blurred(rng: random.Random, question: str) -> str:
    """The same question as people really type it."""
    if rng.random() < 0.15:
        question = rng.choice(_PREFIXES) + question[0].lower() + question[1:]
    if rng.random() < 0.1:
        question += rng.choice(_SUFFIXES)
    if rng.random() < 0.15:
        question = question.lower()
    return question.rstrip("?.!") if rng.random() < 0.15 else question


FACTS = CONCEPTS + HOW_TO + MANNERS


def exchange(rng: random.Random, split: Split) -> tuple[str, Fact]:
    """A question and the fact that answers it."""
    draw = rng.random()
    if draw < 0.18:
        return open_question(rng, split), Fact(REFUSAL, ("starter model", "import"), "plain", ())
    fact = rng.choice(MANNERS) if draw < 0.36 else rng.choice(CONCEPTS + HOW_TO)
    question = _question(rng, fact, split)
    return (_blurred(rng, question) if split == "train" else question), fact


def completion(rng: random.Random, split: Split) -> Json:
    """The same as raw text, for the endpoints that send a prompt without a chat template."""
    question, fact = exchange(rng, split)
    layout, gap = rng.choice(
        (
            ("{}", "\n"),
            ("{}", " "),
            ("Question: {}\nAnswer:", " "),
            ("Q: {}\nA:", " "),
            ("{}\n", ""),
            ("User: {}\nAssistant:", " "),
        )
    )
    return {"prompt": layout.format(question), "completion": gap + fact.answer}


def conversation(rng: random.Random, split: Split) -> Json:
    """One to three questions and answers."""
    messages: list[Json] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        question, fact = exchange(rng, split)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": fact.answer}]
    return {"messages": messages}
