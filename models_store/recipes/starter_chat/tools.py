"""Tool calls over tools that were never seen before: pick the right one, copy the arguments, answer with the result.

A tool is invented anew for every conversation, so the only way to lower the loss is to read the tool section and
copy from the request. Words of held-out tools are kept apart by `words.is_held_out`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import words
from .words import Split

Value = str | int | float | bool
Json = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A sort of argument: its names in a schema, its values, and how people mention it in passing."""

    names: tuple[str, ...]
    type: str
    make: Callable[[random.Random, Split], Value]
    cues: tuple[str, ...]
    """Phrases that carry the value without naming the argument."""


def _text(maker: Callable[[random.Random], Value]) -> Callable[[random.Random, Split], Value]:
    return lambda rng, _split: maker(rng)


KINDS = (
    Kind(
        ("city", "place", "location", "town", "destination"),
        "string",
        words.place,
        ("in {}", "at {}", "near {}", "for {}"),
    ),
    Kind(
        ("person", "name", "customer", "recipient", "user", "owner"),
        "string",
        words.person,
        ("to {}", "for {}", "by {}", "from {}"),
    ),
    Kind(("date", "day", "due_date", "start_date"), "string", _text(words.date), ("on {}", "for {}", "by {}")),
    Kind(("time", "start_time", "hour"), "string", _text(words.clock), ("at {}", "by {}", "from {}")),
    Kind(("email", "address"), "string", words.email, ("to {}", "at {}", "for {}")),
    Kind(
        ("id", "code", "order_id", "reference", "serial"),
        "string",
        _text(words.code),
        ("{}", "with code {}", "number {}", "id {}"),
    ),
    Kind(
        ("text", "message", "title", "note", "query", "subject", "topic"),
        "string",
        words.phrase,
        ('"{}"', "about {}", "saying {}", "called {}"),
    ),
    Kind(
        ("count", "limit", "quantity", "days", "amount", "size", "number"),
        "integer",
        _text(words.number),
        ("{}", "{} of them", "up to {}"),
    ),
    Kind(
        ("price", "weight", "rate", "temperature", "distance"),
        "number",
        _text(lambda r: r.randint(1, 999) / 10),
        ("at {}", "of {}", "around {}"),
    ),
    Kind(("colour", "color"), "string", _text(lambda r: r.choice(words.COLOURS)), ("in {}", "coloured {}")),
)

PAIR_KINDS = (
    Kind((), "integer", _text(words.number), ()),
    Kind((), "number", _text(lambda r: r.randint(1, 999) / 10), ()),
    Kind((), "string", words.place, ()),
    Kind((), "string", words.invented, ()),
    Kind((), "string", _text(words.clock), ()),
)

ENUMS = (
    ("celsius", "fahrenheit"),
    ("low", "medium", "high"),
    ("small", "medium", "large"),
    ("asc", "desc"),
    ("metric", "imperial"),
    ("json", "csv", "xml"),
    ("pdf", "html", "text"),
    ("email", "sms", "phone"),
)
"""Choices that real tools often offer."""

ALIKE = (
    ("get", "show", "fetch", "read", "check", "look up", "see"),
    ("create", "make", "add", "set up"),
    ("delete", "remove", "cancel", "get rid of"),
    ("send", "post", "share", "submit"),
    ("find", "search", "look for", "search for"),
    ("book", "order", "buy", "reserve"),
    ("stop", "close", "turn off", "switch off"),
    ("start", "open", "turn on", "switch on"),
    ("change", "update", "set", "adjust", "edit"),
    ("compute", "count", "measure", "calculate"),
)
"""Verbs that a request may put in place of the tool's own."""

PAIRS = (
    (("a", "b"), ("{} and {}", "{}, {}", "of {} and {}", "for {} and {}")),
    (("x", "y"), ("{} and {}", "at {}, {}", "for {} and {}")),
    (("first", "second"), ("{} and {}", "of {} and {}", "{} with {}")),
    (("left", "right"), ("{} and {}", "of {} and {}", "{} by {}")),
    (("from", "to"), ("from {} to {}", "between {} and {}", "{} to {}")),
    (("origin", "destination"), ("from {} to {}", "from {} into {}")),
    (("source", "target"), ("from {} to {}", "{} into {}", "{} to {}")),
    (("start", "end"), ("from {} to {}", "between {} and {}", "from {} until {}")),
    (("old_name", "new_name"), ("from {} to {}", "{} to {}")),
)
"""Two arguments of one sort that are told apart by their order."""

NAMED = (
    "{name} {value}",
    "{name} is {value}",
    "{name} = {value}",
    "{name}: {value}",
    "with {name} {value}",
    "set {name} to {value}",
    "use {value} as the {name}",
    "{value} for the {name}",
    "where {name} is {value}",
    "the {name} should be {value}",
)
"""Ways to mention an argument by its name."""


@dataclass(frozen=True)
class Argument:
    """One argument of one invented tool."""

    name: str
    schema: Json
    kind: Kind | None
    required: bool


@dataclass(frozen=True)
class Tool:
    """An invented tool, and the two words that a request for it must mention."""

    name: str
    verb: str
    thing: str
    description: str
    arguments: tuple[Argument, ...]
    pair: tuple[str, ...] = ()
    """Ways to mention the first two arguments together."""

    def as_json(self) -> Json:
        """The tool as a client of the OpenAI dialect would send it."""
        properties = {argument.name: argument.schema for argument in self.arguments}
        parameters: Json = {"type": "object", "properties": properties}
        parameters["required"] = [argument.name for argument in self.arguments if argument.required]
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


REQUIRED: dict[Split, float] = {"train": 0.55, "held_out": 0.75}
"""Share of arguments that a call must have."""
GIVEN: dict[Split, float] = {"train": 0.35, "held_out": 0.5}
"""Share of the others that a request gives. Training leaves out more: to leave out is what the network finds hard."""


def thing_is_held_out(verb: str, thing: str) -> bool:
    """Whether a pair of real words is kept for evaluation."""
    return words.is_held_out(f"{verb} {thing}")


def _subject(rng: random.Random, split: Split) -> tuple[str, str]:
    """A verb and the thing it works on; both together belong to `split`."""
    if rng.random() < 0.35:
        return rng.choice(words.VERBS), words.invented(rng, split)
    while True:
        verb, thing = rng.choice(words.VERBS), rng.choice(words.NOUNS)
        if rng.random() < 0.25:
            thing = f"{rng.choice(words.NOUNS)} {thing}"
        if thing_is_held_out(verb, thing) == (split == "held_out"):
            return verb, thing


def _name(rng: random.Random, split: Split, verb: str, thing: str) -> str:
    """A function name: usually made of the subject, sometimes meaningless, so that descriptions get read."""
    draw = rng.random()
    joined = thing.replace(" ", "_")
    if draw < 0.55:
        return f"{verb}_{joined}"
    if draw < 0.65:
        return joined
    if draw < 0.72:
        return verb + "".join(part.capitalize() for part in thing.split())
    if draw < 0.8:
        return f"{joined}_{verb}"
    return (
        words.invented(rng, split)
        if rng.random() < 0.5
        else f"{words.invented(rng, split)}_{words.invented(rng, split)}"
    )


DESCRIPTIONS = (
    "{v} the {t}",
    "{v} a {t}",
    "{v} {t}s",
    "{v} {t}",
    "{v} the {t} for the user",
    "{v} the {t} for a given {n}",
    "{v} the {t} by {n}",
    "{v} the current {t}",
    "use this to {v} a {t}",
    "tool to {v} one {t}",
    "this tool can {v} a {t}",
    "call this to {v} the {t} and return the result",
    "a function that can {v} any {t}",
    "{v} the {t} and return it",
)


def _description(rng: random.Random, verb: str, thing: str, arguments: tuple[Argument, ...]) -> str:
    """One line that names the subject, sometimes an argument too."""
    noun = rng.choice(arguments).name.replace("_", " ") if arguments else "user"
    line = rng.choice(DESCRIPTIONS).format(v=verb, t=thing, n=noun)
    return line[0].upper() + line[1:] + rng.choice((".", "", "."))


def _argument(rng: random.Random, split: Split, taken: set[str]) -> Argument:
    """An argument of a known kind, an enum, a flag, or one with an invented name."""
    while True:
        draw = rng.random()
        kind: Kind | None = None
        schema: Json
        if draw < 0.68:
            kind = rng.choice(KINDS)
            name, schema = rng.choice(kind.names), {"type": kind.type}
        elif draw < 0.76:
            invented = rng.sample((*words.COLOURS, *words.ADJECTIVES), rng.randint(2, 4))
            options = list(rng.choice(ENUMS)) if rng.random() < 0.5 else invented
            name = rng.choice(("mode", "unit", "style", "level", "format", words.invented(rng, split)))
            schema = {"type": "string", "enum": options}
        elif draw < 0.82:
            name, schema = (
                rng.choice(("urgent", "private", "verbose", "dry_run", "recursive", words.invented(rng, split))),
                {"type": "boolean"},
            )
        else:
            name, schema = words.invented(rng, split), {"type": rng.choice(("string", "string", "integer", "number"))}
        if name not in taken:
            break
    taken |= set(kind.names) if kind else {name}
    if rng.random() < 0.25:
        schema["description"] = rng.choice(("The {}", "{} to use", "Which {}", "The {} of it")).format(
            name.replace("_", " ")
        )
    return Argument(name, schema, kind, rng.random() < REQUIRED[split])


def _pair(rng: random.Random, taken: set[str]) -> tuple[tuple[str, ...], list[Argument]]:
    """Two arguments that are told apart by order, and how to mention them."""
    names, phrases = rng.choice(PAIRS)
    taken |= set(names)
    kind = rng.choice(PAIR_KINDS)
    return phrases, [Argument(name, {"type": kind.type}, kind, True) for name in names]


def tool(rng: random.Random, split: Split, most_arguments: int = 4) -> Tool:
    """A fresh tool."""
    verb, thing = _subject(rng, split)
    taken: set[str] = set()
    count = min(most_arguments, rng.choice((0, 1, 1, 1, 2, 2, 2, 3, 3, 4)))
    phrases: tuple[str, ...] = ()
    arguments: list[Argument] = []
    if count >= 2 and rng.random() < 0.2:
        phrases, arguments = _pair(rng, taken)
    arguments += [_argument(rng, split, taken) for _ in range(count - len(arguments))]
    if arguments and not any(argument.required for argument in arguments):
        arguments[0] = Argument(arguments[0].name, arguments[0].schema, arguments[0].kind, True)
    listed = tuple(arguments)
    description = _description(rng, verb, thing, listed)
    return Tool(_name(rng, split, verb, thing), verb, thing, description, listed, phrases)


def _value(rng: random.Random, split: Split, argument: Argument) -> Value:
    """A value that the argument's schema allows."""
    if "enum" in argument.schema:
        return str(rng.choice(argument.schema["enum"]))
    if argument.schema["type"] == "boolean":
        return rng.random() < 0.5
    if argument.kind is not None:
        return argument.kind.make(rng, split)
    if argument.schema["type"] == "integer":
        return words.number(rng)
    if argument.schema["type"] == "number":
        return rng.randint(1, 999) / 10
    makers = (words.title, words.place, words.person, words.invented, words.phrase, _text(words.code))
    return rng.choice(makers)(rng, split)


def _spoken(argument: Argument, value: Value, rng: random.Random) -> str:
    """How a request mentions one argument."""
    name = argument.name.replace("_", " ") if rng.random() < 0.8 else argument.name
    if isinstance(value, bool):
        shapes = ("{name} is {flag}", "with {name} {flag}", "{name} = {flag}", "set {name} to {flag}", "{name} {flag}")
        return rng.choice(shapes).format(name=name, flag=json.dumps(value))
    if argument.kind is not None and argument.kind.cues and rng.random() < 0.5:
        return rng.choice(argument.kind.cues).format(value)
    if "enum" in argument.schema and rng.random() < 0.4:
        return rng.choice(("in {}", "as {}")).format(value)
    quoted = f'"{value}"' if isinstance(value, str) and rng.random() < 0.12 else str(value)
    return rng.choice(NAMED).format(name=name, value=quoted)


STARTS = (
    *("", "", "", "please", "can you", "could you", "I want to", "I need you to", "I would like to", "help me"),
    *("let us", "now", "try to", "you should", "we have to", "I have to", "is it possible to", "do me a favour and"),
    *("my job is to", "the next step is to", "ok,", "hey,", "first", "quickly", "can we", "I was told to", "just"),
    *("remember to", "my friend asked me to", "somebody must", "will you", "you may", "I was going to", "next,"),
)
OBJECTS = ("the {t}", "the {t}", "a {t}", "a {t}", "{t}", "my {t}", "this {t}", "that {t}", "one {t}", "our {t}")
ENDS = ("", "", "", "", "", "", "for me", "now", "today", "right away", "if you can", "again", "as soon as possible")
"""Parts of a request to do something; many, because a network that has seen few learns them by heart."""

MENTIONS = (
    *("what is the {t}", "what's the {t}", "tell me the {t}", "what about the {t}", "I need the {t}", "the {t} please"),
    *(
        "give me the {t}",
        "how is the {t}",
        "I want to know the {t}",
        "do you know the {t}",
        "any news on the {t}",
        "{t}",
    ),
    *("I am curious about the {t}", "we need that {t}", "can I have the {t}", "is there a {t}", "show me the {t}"),
    *("I wonder about the {t}", "I am looking for the {t}", "my question is about the {t}", "we talked about the {t}"),
)
"""Requests that name the thing only; used when no other offered tool is about it."""

HELD_OUT_OPENINGS = ("would you kindly {v} the {t}", "it is time to {v} the {t}", "go ahead and {v} a {t}")


def _verb(rng: random.Random, wanted: Tool) -> str:
    """The tool's verb or one like it."""
    alike = next((group for group in ALIKE if wanted.verb in group), (wanted.verb,))
    return rng.choice(alike) if rng.random() < 0.4 else wanted.verb


def _opening(rng: random.Random, split: Split, wanted: Tool, others: list[Tool]) -> str:
    """The part of a request that says which tool."""
    if rng.random() < 0.08:
        return rng.choice(("call {n}", "use {n}", "run {n}", "use the tool {n}")).format(n=wanted.name)
    unambiguous = not any(set(wanted.thing.split()) & set(other.thing.split()) for other in others)
    verb = _verb(rng, wanted) if unambiguous else wanted.verb
    if split == "held_out" and rng.random() < 0.3:
        return rng.choice(HELD_OUT_OPENINGS).format(v=verb, t=wanted.thing)
    if unambiguous and rng.random() < 0.3:
        return rng.choice(MENTIONS).format(t=wanted.thing)
    start = f"{words.invented(rng, split).capitalize()}," if rng.random() < 0.08 else rng.choice(STARTS)
    parts = (start, verb, rng.choice(OBJECTS).format(t=wanted.thing), rng.choice(ENDS))
    return " ".join(part for part in parts if part)


def _request(
    rng: random.Random, split: Split, wanted: Tool, others: list[Tool], given: list[tuple[Argument, Value]]
) -> str:
    """What the user says: the subject, then the arguments in any order."""
    opening = _opening(rng, split, wanted, others)
    spoken: list[str] = []
    if wanted.pair and rng.random() < 0.75:
        spoken.append(rng.choice(wanted.pair).format(given[0][1], given[1][1]))
        given = given[2:]
    spoken += [_spoken(argument, value, rng) for argument, value in given]
    rng.shuffle(spoken)
    several_words = any(" " in str(value) for _, value in given)
    joiner = rng.choice((", ", " and ", ", ") if several_words else (" ", ", ", ", ", " and "))
    text = opening + (rng.choice((" ", ", ", " ")) if spoken else "") + joiner.join(spoken)
    if rng.random() < 0.7:
        text = text[0].upper() + text[1:]
    return text + rng.choice((".", "?", "", "", " please.", "!"))


def call_json(name: str, arguments: Json) -> str:
    """A call exactly as the product's grammar spells it."""
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


def _result(rng: random.Random, split: Split, wanted: Tool) -> tuple[str, str]:
    """What a tool gives back, and the answer that passes it on."""
    thing = wanted.thing.split()[-1]
    key = rng.choice((thing, "result", "status", "answer", "value"))
    makers = (
        words.title,
        words.place,
        words.person,
        words.phrase,
        _text(words.code),
        _text(words.number),
        _text(words.date),
    )
    value = rng.choice(makers)(rng, split)
    draw = rng.random()
    if draw < 0.5:
        return json.dumps({key: value}), f"The {key} is {value}."
    if draw < 0.75:
        return str(value), f"The result is {value}."
    other, second = rng.choice(words.NOUNS), rng.choice(makers)(rng, split)
    if other == key:
        return str(value), f"The result is {value}."
    return json.dumps({key: value, other: second}), f"The {key} is {value} and the {other} is {second}."


def offer(rng: random.Random, split: Split, count: int, most_arguments: int = 4) -> list[Tool]:
    """`count` tools with different names, some of them alike on purpose."""
    tools: list[Tool] = []
    while len(tools) < count:
        fresh = tool(rng, split, most_arguments)
        if all(fresh.name != known.name and (fresh.verb, fresh.thing) != (known.verb, known.thing) for known in tools):
            tools.append(fresh)
    return tools


def _turn(rng: random.Random, split: Split, offered: list[Tool]) -> tuple[Tool, list[Json]]:
    """A request for one of the tools, and the call that answers it."""
    wanted = rng.choice(offered)
    given = [(a, _value(rng, split, a)) for a in wanted.arguments if a.required or rng.random() < GIVEN[split]]
    others = [other for other in offered if other is not wanted]
    arguments = json.dumps({argument.name: value for argument, value in given}, ensure_ascii=False)
    call = {"type": "function", "function": {"name": wanted.name, "arguments": arguments}}
    request = _request(rng, split, wanted, others, given)
    return wanted, [{"role": "user", "content": request}, {"role": "assistant", "content": "", "tool_calls": [call]}]


@dataclass(frozen=True)
class Size:
    """How large a conversation about tools may get."""

    most_tools: int = 4
    most_arguments: int = 4
    results: float = 0.6
    """Share of calls that get a result and an answer; a conversation ends at the first that does not."""
    turns: tuple[int, ...] = (1, 1, 1, 1, 1, 1, 1, 1, 1, 2)


def conversation(rng: random.Random, split: Split, size: Size | None = None) -> Json:
    """Messages in which the user wants one of the offered tools."""
    size = size or Size()
    offered = offer(rng, split, rng.randint(1, size.most_tools), size.most_arguments)
    messages: list[Json] = []
    for _ in range(rng.choice(size.turns)):
        wanted, turn = _turn(rng, split, offered)
        messages += turn
        if rng.random() >= size.results:
            break
        result, answer = _result(rng, split, wanted)
        messages += [{"role": "tool", "content": result}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "tools": [each.as_json() for each in offered]}
