"""The mix: which exercise comes next, and what a sample looks like as text.

The only module that knows all the generators. Training asks it for an endless stream; evaluation asks it for held-out
samples of one exercise.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from . import arithmetic, facts, passages, template, tools
from .template import Segment
from .words import Split

Json = dict[str, Any]

SYSTEM_LINES = (
    "You are a helpful assistant.",
    "You are starter-chat, a small assistant.",
    "You are a helpful assistant. You may use the attached tools to answer.",
    "You are a helpful assistant. You may use the attached tools when they help; if no tool fits, answer yourself.",
    "Be brief.",
    "Answer the user.",
    "You are the assistant of a model appliance.",
    "You can call the tools below. Call one tool at a time and then answer the user with its result.",
)

AGENT_INSTRUCTIONS = (
    "You are a helpful assistant. You may use the attached tools to help you answer the question. "
    "Think about which tool fits, call it with the right arguments, and use its result to answer. "
    "If none of the tools fits, answer the question directly."
)

MIX: dict[str, tuple[float, float]] = {
    "chant": (0.12, 0.0),
    "repeat": (0.08, 0.02),
    "lookup": (0.18, 0.03),
    "tools": (0.26, 0.60),
    "passages": (0.18, 0.15),
    "facts": (0.10, 0.10),
    "raw_facts": (0.04, 0.04),
    "no_tool": (0.02, 0.04),
    "arithmetic": (0.02, 0.02),
}
"""Share of samples per exercise at the start and at the end of training."""


def _no_tool(rng: random.Random, split: Split) -> Json:
    """Tools are offered, but the question is not for them."""
    question, fact = facts.exchange(rng, split)
    offered = [each.as_json() for each in tools.offer(rng, split, rng.randint(1, 3))]
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": fact.answer}]
    return {"messages": messages, "tools": offered}


def _with_system(rng: random.Random, sample: Json) -> Json:
    """Half of the conversations start with instructions."""
    if "messages" not in sample or sample["messages"][0]["role"] == "system" or rng.random() < 0.5:
        return sample
    line = AGENT_INSTRUCTIONS if sample.get("tools") and rng.random() < 0.3 else rng.choice(SYSTEM_LINES)
    return {**sample, "messages": [{"role": "system", "content": line}, *sample["messages"]]}


def _tools_size(split: Split, progress: float) -> tools.Size:
    """Longer with progress; held-out samples end at the call, which is what they measure."""
    results = 0.35 if split == "train" else 0.0
    return tools.Size(most_tools=1 + round(3 * progress), most_arguments=2 + round(2 * progress), results=results)


def sample(rng: random.Random, exercise: str, split: Split, progress: float = 1.0) -> Json:
    """One sample of an exercise; `progress` from 0 to 1 makes tool lists and passages longer."""
    if exercise == "tools":
        made = tools.conversation(rng, split, _tools_size(split, progress))
    elif exercise == "passages":
        made = passages.conversation(rng, split, 2 + round(5 * progress))
    elif exercise == "facts":
        made = facts.conversation(rng, split)
    elif exercise == "raw_facts":
        made = facts.completion(rng, split)
    elif exercise == "no_tool":
        made = _no_tool(rng, split)
    else:
        simple = {
            "arithmetic": arithmetic.conversation,
            "repeat": arithmetic.repetition,
            "lookup": arithmetic.lookup,
            "chant": arithmetic.chant,
        }
        made = simple[exercise](rng, split)
    return _with_system(rng, made)


def stream(seed: int, split: Split = "train", progress: float = 1.0) -> Iterator[Json]:
    """An endless mix of exercises."""
    rng = random.Random(seed)
    shares = [start + (end - start) * progress for start, end in MIX.values()]
    while True:
        exercise = rng.choices(tuple(MIX), shares)[0]
        yield sample(rng, exercise, split, progress)


def segments(made: Json) -> list[Segment]:
    """A sample as text, cut where the model starts and stops writing."""
    if "prompt" in made:
        return [(made["prompt"], False), (made["completion"] + "<|endoftext|>", True)]
    return template.segments(made["messages"], made.get("tools"))


def text(made: Json) -> str:
    """A sample as one string."""
    return "".join(part for part, _ in segments(made))
