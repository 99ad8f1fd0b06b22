"""The chat format: ChatML with a compact tool section, as a Jinja template and as Python that agrees with it.

The tools stand in the order of the words that they share with the request, the likeliest first. A network this small
finds the right one among several in three of four cases; the words alone find it in nearly all. It still reads every
tool and may take another, where the words mislead.

The Jinja text goes into the GGUF and is what every server runs. Training renders with `segments`, which also
says which parts the model itself writes; a test holds the two to the same characters.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

RANKING = " | sort(attribute='0', reverse=true)"
"""The part of the template that puts the likeliest tool first."""
PUNCTUATION = ',.?!:;"()='
COMMON = (
    *("about", "and", "can", "could", "for", "from", "get", "has", "have", "like", "may", "need", "now", "our"),
    *("please", "set", "that", "the", "this", "use", "want", "what", "where", "will", "with", "would", "you"),
)
"""Words that say nothing about which tool is meant."""
LEAST_WORD = 3
MOST_WORDS = 40
"""Words of a request that are looked at."""

CHAT_TEMPLATE = """\
{%- set ns = namespace(system='', request='', ranked=[], score=0, text='', open=false) -%}
{%- for message in messages -%}
{%- if message.role in ('system', 'developer') -%}
{%- set ns.system = ns.system + ('\\n' if ns.system else '') + message.content -%}
{%- elif message.role == 'user' -%}
{%- set ns.request = message.content -%}
{%- endif -%}
{%- endfor -%}
{%- if ns.system or tools -%}
{{- '<|im_start|>system\\n' + ns.system -}}
{%- if tools -%}
{%- set ns.request = ns.request | lower -%}
{%- for mark in 'PUNCTUATION' -%}{%- set ns.request = ns.request.replace(mark, ' ') -%}{%- endfor -%}
{%- set common = 'COMMON'.split() -%}
{%- for tool in tools -%}
{%- set function = tool.function if tool.function is defined else tool -%}
{%- set ns.score = 0 -%}
{%- set ns.text = ((function.description or '') + ' ' + function.name) | lower -%}
{%- for word in ns.request.split()[:MOST_WORDS] | unique if word | length >= LEAST_WORD and word not in common -%}
{%- if word in ns.text or (word[-1] == 's' and word[:-1] in ns.text) -%}
{%- set ns.score = ns.score + word | length -%}
{%- endif -%}
{%- endfor -%}
{%- set ns.ranked = ns.ranked + [[ns.score, function]] -%}
{%- endfor -%}
{{- ('\\n' if ns.system else '') + '<tools>' -}}
{%- for score, function in ns.rankedRANKING -%}
{%- set parameters = function.parameters if function.parameters else {} -%}
{%- set required = parameters.required if parameters.required else [] -%}
{{- '\\n' + (function.description + ' -> ' if function.description else '') + function.name + '(' -}}
{%- for name, schema in (parameters.properties if parameters.properties else {}).items() -%}
{{- ', ' if not loop.first else '' -}}
{{- name + ('' if name in required else '?') + ': ' -}}
{{- schema.enum | join(' | ') if schema.enum else (schema.type if schema.type is string else 'any') -}}
{{- ' (' + schema.description + ')' if schema.description else '' -}}
{%- endfor -%}
{{- ')' -}}
{%- endfor -%}
{{- '\\n</tools>' -}}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '' if ns.open else '<|im_start|>user' -}}
{%- set ns.open = true -%}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
{{- '<|im_end|>\\n' if loop.last or loop.nextitem.role != 'tool' else '' -}}
{%- elif message.role not in ('system', 'developer') -%}
{%- set ns.open = false -%}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') -}}
{%- if message.tool_calls -%}
{%- for call in message.tool_calls -%}
{%- set function = call.function if call.function is defined else call -%}
{{- '\\n' if message.content or not loop.first else '' -}}
{{- '<tool_call>\\n{"name": "' + function.name + '", "arguments": ' -}}
{{- function.arguments if function.arguments is string else function.arguments | tojson -}}
{{- '}\\n</tool_call>' -}}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{{- '<|im_start|>assistant\\n' if add_generation_prompt else '' -}}"""
for _name, _value in (
    ("RANKING", RANKING),
    ("'PUNCTUATION'", f"'{PUNCTUATION}'"),
    ("'COMMON'", f"'{' '.join(COMMON)}'"),
    ("MOST_WORDS", str(MOST_WORDS)),
    ("LEAST_WORD", str(LEAST_WORD)),
):
    CHAT_TEMPLATE = CHAT_TEMPLATE.replace(_name, _value)

Segment = tuple[str, bool]
"""Some text, and whether the model writes it (and is trained on it)."""


def _type_of(schema: Json) -> str:
    if schema.get("enum"):
        return " | ".join(str(option) for option in schema["enum"])
    return schema["type"] if isinstance(schema.get("type"), str) else "any"


def tool_line(tool: Json) -> str:
    """One tool as `what it does -> name(argument: type, optional?: type (what it is))`.

    The description comes first so that, reading left to right, the name is met when its meaning is known.
    """
    function = tool.get("function", tool)
    parameters = function.get("parameters") or {}
    required = parameters.get("required") or []
    arguments = []
    for name, schema in (parameters.get("properties") or {}).items():
        note = f" ({schema['description']})" if schema.get("description") else ""
        arguments.append(f"{name}{'' if name in required else '?'}: {_type_of(schema)}{note}")
    meaning = f"{function['description']} -> " if function.get("description") else ""
    return f"{meaning}{function['name']}({', '.join(arguments)})"


def shared_words(request: str, tool: Json) -> int:
    """How much a request and a tool have in common: the letters of the request's words that the tool's text holds."""
    function = tool.get("function", tool)
    text = f"{function.get('description') or ''} {function['name']}".lower()
    request = request.lower()
    for mark in PUNCTUATION:
        request = request.replace(mark, " ")
    words = {word for word in request.split()[:MOST_WORDS] if len(word) >= LEAST_WORD and word not in COMMON}
    return sum(len(word) for word in words if word in text or (word[-1] == "s" and word[:-1] in text))


def ranked(request: str, tools: list[Json]) -> list[Json]:
    """The tools, the likeliest first; equal ones in the order given."""
    return sorted(tools, key=lambda tool: shared_words(request, tool), reverse=True)


def _listing(request: str, tools: list[Json]) -> str:
    """The tool section."""
    return "<tools>" + "".join("\n" + tool_line(tool) for tool in ranked(request, tools)) + "\n</tools>"


def _system(messages: list[Json], listing: str) -> str:
    """The system turn, or nothing."""
    said = "\n".join(m["content"] for m in messages if m["role"] in ("system", "developer"))
    body = "\n".join(part for part in (said, listing) if part)
    return f"<|im_start|>system\n{body}<|im_end|>\n" if body else ""


def _written(message: Json) -> str:
    """What an assistant's message looks like in its turn."""
    parts = [message["content"]] if message.get("content") else []
    for call in message.get("tool_calls") or ():
        function = call["function"]
        parts.append(
            f'<tool_call>\n{{"name": "{function["name"]}", "arguments": {function["arguments"]}}}\n</tool_call>'
        )
    return "\n".join(parts)


def segments(messages: list[Json], tools: list[Json] | None = None) -> list[Segment]:
    """The conversation cut where the author changes; the end-of-turn mark belongs to who writes it.

    Where there are tools, what the model wrote before the last request is not for it to learn: the tools stood in
    another order then.
    """
    asked = max((index for index, message in enumerate(messages) if message["role"] == "user"), default=-1)
    request = messages[asked]["content"] if asked >= 0 else ""
    found: list[Segment] = [(_system(messages, _listing(request, tools) if tools else ""), False)]
    for index, message in enumerate(messages):
        role = message["role"]
        if role == "assistant":
            ours = not tools or index > asked
            found += [("<|im_start|>assistant\n", False), (_written(message) + "<|im_end|>", ours), ("\n", False)]
        elif role == "tool":
            opening = "" if index and messages[index - 1]["role"] == "tool" else "<|im_start|>user"
            last = index + 1 == len(messages) or messages[index + 1]["role"] != "tool"
            body = f"{opening}\n<tool_response>\n{message['content']}\n</tool_response>"
            found.append((body + ("<|im_end|>\n" if last else ""), False))
        elif role == "user":
            found.append((f"<|im_start|>user\n{message['content']}<|im_end|>\n", False))
    return found
