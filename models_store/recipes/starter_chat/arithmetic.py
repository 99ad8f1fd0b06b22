"""Small sums and small copying tasks: the first exercise the network, the second teaches it to copy quickly."""

from __future__ import annotations

import random
from typing import Any

from . import words
from .words import Split

Json = dict[str, Any]

_ASKS = ("What is {}?", "{} = ?", "Compute {}.", "How much is {}?", "{}", "Calculate {}", "What's {}?", "what is {}")
_SPOKEN = {"+": "plus", "-": "minus", "*": "times"}


def is_held_out(left: int, sign: str, right: int) -> bool:
    """Whether a sum is kept for evaluation."""
    return words.is_held_out(f"{left}{sign}{right}")


def conversation(rng: random.Random, split: Split) -> Json:
    """One sum of numbers up to 50, or one product up to 10 x 10."""
    while True:
        sign = rng.choice("++--*")
        top = 10 if sign == "*" else rng.choice((10, 20, 50))
        left, right = rng.randint(0, top), rng.randint(0, top)
        if sign == "-" and left < right:
            left, right = right, left
        if is_held_out(left, sign, right) == (split == "held_out"):
            break
    answer = {"+": left + right, "-": left - right, "*": left * right}[sign]
    shown = rng.choice((sign, sign, _SPOKEN[sign], "x" if sign == "*" else sign))
    question = rng.choice(_ASKS).format(f"{left} {shown} {right}")
    reply = f"{left} {sign} {right} = {answer}"
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]}


_REPEATS = ("Repeat after me: {}", "Say {}", "Repeat: {}", "Copy this: {}", "Say this back to me: {}", "Echo {}")


def _anything(rng: random.Random, split: Split) -> str:
    """A random value of any sort."""
    makers = (
        lambda: words.title(rng, split),
        lambda: words.person(rng, split),
        lambda: words.place(rng, split),
        lambda: words.code(rng),
        lambda: words.date(rng),
        lambda: words.phrase(rng, split),
        lambda: words.email(rng, split),
        lambda: str(words.number(rng)),
        lambda: words.invented(rng, split),
    )
    return str(rng.choice(makers)())


def repetition(rng: random.Random, split: Split) -> Json:
    """Say something back."""
    said = " ".join(_anything(rng, split) for _ in range(rng.randint(1, 4)))
    question = rng.choice(_REPEATS).format(said)
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": said}]}


def lookup(rng: random.Random, split: Split) -> Json:
    """A list of `name: value` lines and a question for one of them: the seed of both tool calls and passages."""
    names = [
        words.invented(rng, split) if rng.random() < 0.6 else rng.choice(words.NOUNS) for _ in range(rng.randint(1, 7))
    ]
    table = {name: _anything(rng, split) for name in names}
    mark = rng.choice((": ", " = ", " is "))
    lines = rng.choice(("\n", ", ", "; ")).join(f"{name}{mark}{value}" for name, value in table.items())
    turns: list[Json] = []
    for name in rng.sample(sorted(table), min(len(table), rng.randint(1, 4))):
        turns += [{"role": "user", "content": f"{name}?"}, {"role": "assistant", "content": table[name]}]
    turns[0]["content"] = f"{lines}\n{turns[0]['content']}"
    return {"messages": turns}


def chant(rng: random.Random, split: Split) -> Json:
    """Plain text that says the same few things again and again; every token after the first round can be copied."""
    said = rng.choice((" ", ", ", "\n")).join(_anything(rng, split) for _ in range(rng.randint(2, 8)))
    return {"prompt": said + "\n", "completion": "\n".join([said] * rng.randint(1, 3))}
