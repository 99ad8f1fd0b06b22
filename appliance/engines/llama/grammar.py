"""From what an answer must be to a GBNF grammar: JSON schemas and tool calls.

Pure Python over bounded input, called off the event loop. What a schema asks for and the grammar cannot hold is refused
by name and path, never ignored. JSON comes out in one shape, as ``json.dumps`` writes it: ``", "`` and ``": "`` and no
other blanks, so that a model can neither stall in whitespace nor be asked for a shape it was not trained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, TypeAlias

from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import Constraint, GrammarConstraint, JsonConstraint, Tool, ToolConstraint
from appliance.engines.llama import ranges
from appliance.engines.llama.patterns import NotHeld, pattern_body
from appliance.engines.llama.schema import MAX_REPETITIONS, Path, Schema, SchemaReader, refuse, unsupported
from appliance.engines.parts import THOUGHT_CLOSING, THOUGHT_OPENING
from appliance.engines.tools import CLOSING, OPENING

MAX_GRAMMAR_BYTES = 65_536
"""Of a grammar that a request brings."""
MAX_GENERATED_BYTES = 524_288
"""Of a grammar that a schema became."""
MAX_NESTING = 64
MAX_RULES = 4096

_COMMON_RULES = {
    "char": r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" unit)',
    # no halves of surrogate pairs: json.loads would hand them on and nothing could encode them
    "unit": r"[0-9a-cA-CefEF] hex hex hex | [dD] [0-7] hex hex",
    "hex": "[0-9a-fA-F]",
    "string": r'"\"" char* "\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": 'integer ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "object | array | string | number | boolean | null",
    "object": '"{" (member (", " member)*)? "}"',
    "member": 'string ": " value',
    "array": '"[" (value (", " value)*)? "]"',
}

Rules: TypeAlias = dict[str, str]


class Thoughts(Enum):
    """What a constraint says nothing of: whether thoughts stand before the answer."""

    NONE = "none"
    MAY = "may"
    """The model may begin with ``<think>``."""
    OPEN = "open"
    """The prompt ends with ``<think>``: the answer begins with the thoughts."""


def to_gbnf(constraint: Constraint, thoughts: Thoughts = Thoughts.NONE) -> str:
    """The grammar of a constraint; its root rule is ``root``. Raises InvalidParameter."""
    if isinstance(constraint, GrammarConstraint):
        return _checked(constraint.gbnf)
    builder = _Builder()
    if isinstance(constraint, JsonConstraint):
        root = _json_root(builder, constraint)
    else:
        root = _tool_root(builder, constraint)
    text = builder.text(_with_thoughts(builder, root, thoughts))
    if len(text) > MAX_GENERATED_BYTES:
        raise InvalidParameter(
            f"the schema becomes a grammar of {len(text)} bytes, {MAX_GENERATED_BYTES} are allowed; simplify it"
        )
    return text


def _checked(gbnf: str) -> str:
    """Bounds on a grammar from outside: llama.cpp's parser recurses on nesting and rules."""
    size = len(gbnf.encode("utf-8", "replace"))
    if size > MAX_GRAMMAR_BYTES:
        raise InvalidParameter(f"grammar: {size} bytes, {MAX_GRAMMAR_BYTES} are allowed")
    if "\0" in gbnf:
        raise InvalidParameter("grammar: holds a zero character; GBNF is plain text")
    rules = gbnf.count("::=")
    if rules > MAX_RULES:
        raise InvalidParameter(f"grammar: {rules} rules, {MAX_RULES} are allowed")
    depth = _nesting(gbnf)
    if depth > MAX_NESTING:
        raise InvalidParameter(f"grammar: parentheses nest {depth} deep, {MAX_NESTING} are allowed")
    return gbnf


def _nesting(gbnf: str) -> int:
    """Depth of parentheses outside of literals, character classes and comments."""
    ends = {'"': '"', "[": "]", "#": "\n"}
    depth = deepest = position = 0
    inside: str | None = None
    while position < len(gbnf):
        char = gbnf[position]
        if inside is not None:
            position += char == "\\" and inside != "\n"
            inside = None if char == inside else inside
        elif char in ends:
            inside = ends[char]
        else:
            depth += (char == "(") - (char == ")")
            deepest = max(deepest, depth)
        position += 1
    return deepest


def literal(text: str) -> str:
    """A GBNF literal of this text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return '"' + "".join(c if c >= " " else f"\\x{ord(c):02X}" for c in escaped.replace("\t", "\\t")) + '"'


def json_literal(value: Any) -> str:
    """A GBNF literal of this value's JSON."""
    return literal(json.dumps(value, ensure_ascii=False))


# --- answers -------------------------------------------------------------------------------------------------------


def _json_root(builder: _Builder, constraint: JsonConstraint) -> str:
    return "object" if constraint.schema is None else builder.document(constraint.schema, ("schema",))


def _with_thoughts(builder: _Builder, root: str, thoughts: Thoughts) -> str:
    """The answer after thoughts, which may be any text that does not end them."""
    if thoughts is Thoughts.NONE:
        return root
    answer = builder.rule("answer", root)
    thought = _until(builder, "thought", THOUGHT_CLOSING, f'"\\n"{{0,2}} {answer}')
    return thought if thoughts is Thoughts.OPEN else f"{literal(THOUGHT_OPENING)} {thought} | {answer}"


def _tool_root(builder: _Builder, constraint: ToolConstraint) -> str:
    if not constraint.tools:
        raise InvalidParameter("tools: a tool constraint needs at least one tool")
    strict = [tool.name not in constraint.loose for tool in constraint.tools]
    calls = [_call(builder, index, tool, strict=strict[index]) for index, tool in enumerate(constraint.tools)]
    call = builder.rule("call", " | ".join(calls))
    body = builder.rule("body", f"{literal(chr(10))} {call} {literal(chr(10) + CLOSING)}")
    block = builder.rule("block", f"{literal(OPENING)} {body}")
    more = f' ("\\n" {block})*' if constraint.parallel else ""
    if constraint.required:
        return f"{block}{more}"
    if constraint.answer is not None:
        return f"{block}{more} | {_json_root(builder, constraint.answer)}"
    return _until(builder, "content", OPENING, f"{body}{more}", may_end=True)


def _until(builder: _Builder, name: str, mark: str, then: str, *, may_end: bool = False) -> str:
    """Any text up to a mark, and what follows the mark. With ``may_end`` it may also end before.

    One rule for each character of the mark: how much of it was just said. Only its first character occurs once, so
    that a text that strays from the mark is at its beginning again, or one character in.
    """
    first, end = mark[0], ' | ""' if may_end else ""
    after = builder.rule(f"{name}-after", then)
    for position in range(len(mark) - 1, -1, -1):
        char = mark[position]
        onward = f"{literal(char)} {after if position == len(mark) - 1 else f'{name}-{position + 1}'}"
        again = f"{literal(first)} {name}-1 | " if position else ""
        others = first if char == first else f"{char}{first}"
        builder.rule(f"{name}-{position}", f"[^{others}] {name}-0 | {again}{onward}{end}")
    return f"{name}-0"


def _call(builder: _Builder, index: int, tool: Tool, *, strict: bool) -> str:
    path: Path = ("tools", index, "parameters")
    schema = tool.parameters or {"type": "object", "properties": {}}
    if schema.get("type", "object") != "object":
        raise refuse(path, "the arguments of a tool are an object; give a schema of type object")
    try:
        arguments = builder.document({"type": "object", **schema}, path, strict=strict)
    except InvalidParameter:
        if strict:
            raise
        arguments = "object"  # no grammar holds any of it: the model is left with what it was shown
    head = f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": '
    return builder.rule(f"call-{index}", f'{literal(head)} {arguments} "}}"')


# --- schemas -------------------------------------------------------------------------------------------------------


class _Builder:
    """Collects rules. A schema is visited once per place, a ``$ref`` once per target."""

    def __init__(self) -> None:
        self._rules: Rules = {}
        self._common: set[str] = set()

    def rule(self, name: str, body: str) -> str:
        """Add a rule; return its name."""
        if len(self._rules) >= MAX_RULES:
            raise InvalidParameter(f"the schema needs more than {MAX_RULES} grammar rules; simplify it")
        self._rules[name] = body
        return name

    def text(self, root: str) -> str:
        """All rules, those that every JSON grammar may need included."""
        rules = {"root": root, **self._rules, **_COMMON_RULES}
        return "".join(f"{name} ::= {body}\n" for name, body in rules.items())

    def document(self, schema: Any, path: Path, *, strict: bool = True) -> str:
        """The rule of a whole schema document, with definitions of its own."""
        reader = SchemaReader(schema, path, strict=strict)
        return _Document(self, reader, prefix=f"s{len(self._rules)}").rule_of(schema, path)


class _Document:
    """One schema document on its way into rules."""

    def __init__(self, builder: _Builder, reader: SchemaReader, prefix: str) -> None:
        self._builder = builder
        self._reader = reader
        self._prefix = prefix
        self._count = 0
        self._references: dict[str, str] = {}
        self._kinds: dict[str, Callable[[Schema, Path], str]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda _schema, _path: "boolean",
            "null": lambda _schema, _path: "null",
        }

    def _add(self, body: str) -> str:
        self._count += 1
        return self._builder.rule(f"{self._prefix}-{self._count}", body)

    def rule_of(self, raw: Any, path: Path) -> str:
        """Name of the rule that a value under this schema follows."""
        schema = self._reader.read(raw, path)
        if "$ref" in schema:
            return self._reference(schema["$ref"], path)
        if "enum" in schema or "const" in schema:
            return self._add(" | ".join(json_literal(value) for value in self._reader.choices(schema, path)))
        if "allOf" in schema:
            return self.rule_of(self._reader.only_of_all(schema, path), (*path, "allOf", 0))
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                alternatives = self._reader.alternatives(schema, keyword, path)
                return self._add(" | ".join(self.rule_of(each, (*path, keyword, i)) for i, each in alternatives))
        types = self._reader.types(schema, path)
        if not types:
            return "value"
        rules = [self._kinds[kind](schema, path) for kind in types]
        return rules[0] if len(rules) == 1 else self._add(" | ".join(rules))

    def _reference(self, reference: str, path: Path) -> str:
        name = self._references.get(reference)
        if name is None:
            target, target_path = self._reader.resolve(reference, path)
            name = self._references[reference] = f"{self._prefix}-ref{len(self._references)}"
            self._builder.rule(name, '""')  # the name is taken before its body may refer to it
            self._builder.rule(name, self.rule_of(target, target_path))
        return name

    def _integer(self, schema: Schema, path: Path) -> str:
        limits = self._reader.limits(schema, path, whole=True)
        return "integer" if limits is None else self._add(ranges.whole_numbers(limits.least, limits.most))

    def _number(self, schema: Schema, path: Path) -> str:
        limits = self._reader.limits(schema, path, whole=False)
        if limits is None:
            return "number"
        between = ranges.numbers(limits.least, limits.most, with_least=limits.with_least, with_most=limits.with_most)
        return self._add(between)

    def _string(self, schema: Schema, path: Path) -> str:
        form = self._reader.string_format(schema, ranges.FORMATS, path)
        if form is not None:
            return self._add(f'"\\"" {ranges.FORMATS[form]} "\\""')
        pattern = self._reader.pattern(schema, path)
        if pattern is not None:
            return self._add(f'"\\"" ({_pattern_body(pattern, path)}) "\\""')
        least, most = self._reader.bounds(schema, "minLength", "maxLength", path)
        if least == 0 and most is None:
            return "string"
        return self._add(f'"\\"" {_repeated("char", least, most)} "\\""')

    def _array(self, schema: Schema, path: Path) -> str:
        places = self._reader.tuple_items(schema, path)
        if places is not None:
            rules = [self.rule_of(each, (*path, "prefixItems", place)) for place, each in enumerate(places)]
            return self._add('"[" ' + ' ", " '.join(rules) + ' "]"')
        least, most = self._reader.bounds(schema, "minItems", "maxItems", path)
        item = self.rule_of(schema["items"], (*path, "items")) if "items" in schema else "value"
        if most == 0:
            return self._add('"[]"')
        more = None if most is None else most - 1
        others = f'(", " {item})'
        items = f"{item} {_repeated(others, max(least - 1, 0), more)}"
        return self._add(f'"[" {items} "]"' if least else f'"[" ({items})? "]"')

    def _object(self, schema: Schema, path: Path) -> str:
        properties = self._reader.properties(schema, path)
        if not properties:
            return self._free_object(schema, path)
        required = self._reader.required(schema, properties, path)
        members = [
            (f"{literal(json.dumps(name, ensure_ascii=False) + ': ')} {self.rule_of(sub, (*path, 'properties', name))}")
            for name, sub in properties.items()
        ]
        return self._add(f'"{{" {self._members(members, [name in required for name in properties])} "}}"')

    def _members(self, members: Sequence[str], required: Sequence[bool]) -> str:
        """Members in order, commas between those that are there: one rule per place and what came before."""
        later, first = '""', '""'
        for member, must in reversed(list(zip(members, required, strict=True))):
            here_later = f'", " {member} {later}'
            here_first = f"{member} {later}"
            later = self._add(here_later if must else f"{here_later} | {later}")
            first = self._add(here_first if must else f"{here_first} | {first}")
        return first

    def _free_object(self, schema: Schema, path: Path) -> str:
        """Without properties: any member, unless additionalProperties says otherwise."""
        extra = schema.get("additionalProperties", True)
        if "properties" in schema and "additionalProperties" not in schema:
            extra = False
        least, most = self._reader.bounds(schema, "minProperties", "maxProperties", path)
        if extra is False or most == 0:
            if least or schema.get("required"):
                raise refuse(path, "asks for members and allows none")
            return self._add('"{}"')
        if schema.get("required") or least or most is not None:
            raise unsupported(
                path, "'required', 'minProperties' or 'maxProperties' without 'properties' is not supported"
            )
        if extra is True:
            return "object"
        member = f'string ": " {self.rule_of(extra, (*path, "additionalProperties"))}'
        return self._add(f'"{{" ({member} (", " {member})*)? "}}"')


def _pattern_body(pattern: str, path: Path) -> str:
    try:
        return pattern_body(pattern)
    except NotHeld as error:
        raise unsupported((*path, "pattern"), f"the 'pattern' is not supported: {error}") from None


def _repeated(item: str, least: int, most: int | None) -> str:
    assert least <= MAX_REPETITIONS, "bounds are checked where they are read"
    return f"{item}{{{least},{'' if most is None else most}}}"
