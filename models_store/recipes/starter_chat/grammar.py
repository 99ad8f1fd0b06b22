"""The grammar that evaluation puts on tool calls: one of the offered names, arguments that fit its schema.

A small twin of the server's own grammar, so that the recipe can be run and measured without the server.
"""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]

_TYPES = r"""
string ::= "\"" ( [^"\\\x00-\x1F] | "\\" ["\\/bfnrt] )* "\""
integer ::= "-"? ( "0" | [1-9] [0-9]* )
number ::= integer ( "." [0-9]+ )?
boolean ::= "true" | "false"
"""
_KNOWN = ("string", "integer", "number", "boolean")


def _literal(text: str) -> str:
    """A GBNF literal; JSON's escapes are GBNF's."""
    return json.dumps(text)


def _value(schema: Json) -> str:
    """The rule for one argument's value."""
    if schema.get("enum"):
        return "( " + " | ".join(_literal(json.dumps(option)) for option in schema["enum"]) + " )"
    return schema["type"] if schema.get("type") in _KNOWN else "string"


def _arguments(prefix: str, parameters: Json) -> list[str]:
    """Rules for an object whose keys come in the schema's order and whose optional keys may be missing.

    `PREFIX-I-first` and `PREFIX-I-more` stand for the keys from number I on, before and after a first key was written.
    """
    properties = list((parameters.get("properties") or {}).items())
    required = set(parameters.get("required") or ())
    rules = []
    for index, (name, schema) in enumerate(properties):
        for state, comma in (("first", ""), ("more", ", ")):
            pair = f"{_literal(f'{comma}{json.dumps(name)}: ')} {_value(schema)} {prefix}-{index + 1}-more"
            skip = "" if name in required else f" | {prefix}-{index + 1}-{state}"
            rules.append(f"{prefix}-{index}-{state} ::= {pair}{skip}")
    rules += [f'{prefix}-{len(properties)}-{state} ::= ""' for state in ("first", "more")]
    return rules


def of_tools(tools: list[Json]) -> str:
    """GBNF that allows either plain text or one well-formed call of one of the tools."""
    rules: list[str] = []
    calls = []
    for index, tool in enumerate(tools):
        function = tool["function"]
        opening = f'{{"name": {json.dumps(function["name"])}, "arguments": {{'
        calls.append(f'{_literal(opening)} t{index}-0-first "}}}}"')
        rules += _arguments(f"t{index}", function.get("parameters") or {})
    root = 'root ::= "<tool_call>\\n" call "\\n</tool_call>" | content\ncontent ::= [^<] [^<]*'
    return "\n".join((root, "call ::= " + " | ".join(calls), *rules)) + _TYPES
