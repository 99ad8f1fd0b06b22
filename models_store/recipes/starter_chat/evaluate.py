"""Measure the GGUF through llama.cpp on held-out items, greedily, and write the model card.

Every item comes from the generators' `held_out` side: question patterns and wordings, tool subjects, invented words and
sums that training never sees. Needs llama-cpp-python and jinja2, not torch.
"""

from __future__ import annotations

import ctypes
import datetime
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import conversations, everyday, facts, grammar, template, tools

Json = dict[str, Any]


def _load_backends(package: Path) -> None:
    """Load the CPU variants of a build with loadable backends; a plain build has none and needs none."""
    library, folder = package / "lib" / "libggml.so.0", package.parent / "bin"
    if library.exists() and folder.is_dir():
        ctypes.CDLL(str(library)).ggml_backend_load_all_from_path(str(folder).encode())


class Model:
    """The GGUF with its own chat template; every answer is the likeliest one."""

    def __init__(self, path: Path, threads: int = 2) -> None:
        import llama_cpp
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        _load_backends(Path(llama_cpp.__file__).parent)
        self._llama_cpp = llama_cpp
        self._llama = llama_cpp.Llama(str(path), n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False)
        self.header: dict[str, str] = self._llama.metadata
        source = self.header["tokenizer.chat_template"]
        self.template = ImmutableSandboxedEnvironment().from_string(source)
        self.unranked = ImmutableSandboxedEnvironment().from_string(source.replace(template.RANKING, ""))
        """The same with the tools in the order given."""

    def tokens(self, text: str) -> list[int]:
        """Ids of a rendered conversation."""
        found: list[int] = self._llama.tokenize(text.encode(), add_bos=False, special=True)
        return found

    def complete(self, text: str, rules: str | None = None, most_tokens: int = 160) -> str:
        """What follows `text`."""
        compiled = self._llama_cpp.LlamaGrammar.from_string(rules, verbose=False) if rules else None
        made = self._llama.create_completion(
            self.tokens(text), max_tokens=most_tokens, temperature=0.0, grammar=compiled
        )
        answer: str = made["choices"][0]["text"]
        return answer

    def chat(
        self,
        messages: list[Json],
        offered: list[Json] | None = None,
        rules: str | None = None,
        *,
        ranked: bool = True,
    ) -> str:
        """The next assistant message."""
        chosen = self.template if ranked else self.unranked
        return self.complete(chosen.render(messages=messages, tools=offered, add_generation_prompt=True), rules)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    skill: str
    criterion: str
    right: int
    asked: int
    misses: tuple[tuple[str, str, str], ...]
    """A few failures: what was asked, what was wanted, what came."""

    @property
    def share(self) -> float:
        """Right answers, from 0 to 1."""
        return self.right / self.asked


Item = tuple[str, str, str, bool]
"""What was asked, what was wanted, what came, whether that is right."""


def _row(skill: str, criterion: str, items: Iterable[Item]) -> Row:
    done = list(items)
    misses = tuple((asked, wanted, came) for asked, wanted, came, right in done if not right)
    return Row(skill, criterion, len(done) - len(misses), len(done), misses)


def _has(answer: str, required: tuple[str, ...]) -> bool:
    return all(phrase.lower() in answer.lower() for phrase in required)


def _questions(model: Model, count: int) -> Iterable[Item]:
    rng = random.Random("questions")
    while count:
        question, fact = facts.exchange(rng, "held_out")
        if fact.answer == facts.REFUSAL:
            continue
        count -= 1
        answer = model.chat([{"role": "user", "content": question}])
        yield question, fact.answer, answer, _has(answer, fact.required)


def _raw_questions(model: Model, count: int) -> Iterable[Item]:
    rng = random.Random("raw questions")
    for _ in range(count):
        question, fact = facts.exchange(rng, "held_out")
        answer = model.complete(question)
        yield question, fact.answer, answer, _has(answer, fact.required)


def _refusals(model: Model, count: int) -> Iterable[Item]:
    rng = random.Random("refusals")
    for _ in range(count):
        question = facts.open_question(rng, "held_out")
        answer = model.chat([{"role": "user", "content": question}])
        yield question, facts.REFUSAL, answer, "starter model" in answer


def _same_call(answer: str, wanted: Json) -> bool:
    """Whether the answer is exactly one call with this name and JSON-equal arguments."""
    body = answer.strip()
    if not (body.startswith("<tool_call>") and body.endswith("</tool_call>")):
        return False
    try:
        call = json.loads(body.removeprefix("<tool_call>").removesuffix("</tool_call>"))
    except json.JSONDecodeError:
        return False
    same: bool = call.get("name") == wanted["name"] and call.get("arguments") == json.loads(wanted["arguments"])
    return same


def _calls(model: Model, count: int, *, constrained: bool, ranked: bool = True) -> Iterable[Item]:
    rng = random.Random("calls")
    for _ in range(count):
        made = conversations.sample(rng, "tools", "held_out")
        messages, wanted = made["messages"][:-1], made["messages"][-1]["tool_calls"][0]["function"]
        rules = grammar.of_tools(made["tools"]) if constrained else None
        answer = model.chat(messages, made["tools"], rules, ranked=ranked)
        yield (
            messages[-1]["content"],
            tools.call_json(wanted["name"], json.loads(wanted["arguments"])),
            answer,
            _same_call(answer, wanted),
        )


def _everyday(model: Model) -> Iterable[Item]:
    offered = list(everyday.TOOLS)
    for request, name, arguments in everyday.REQUESTS:
        answer = model.chat([{"role": "user", "content": request}], offered, grammar.of_tools(offered))
        right = _same_call(answer, {"name": name, "arguments": json.dumps(arguments)})
        yield request, tools.call_json(name, arguments), answer, right


def _asked_anew(items: Iterable[Item]) -> list[Item]:
    """Those calls whose request begins in a way that training never saw."""
    starts = tuple(opening.split("{")[0] for opening in tools.HELD_OUT_OPENINGS)
    return [item for item in items if item[0].lower().startswith(starts)]


def _results(model: Model, count: int) -> Iterable[Item]:
    rng = random.Random("results")
    for _ in range(count):
        made = tools.conversation(rng, "held_out", tools.Size(results=1.0, turns=(1,)))
        answer, wanted = model.chat(made["messages"][:-1], made["tools"]), made["messages"][-1]["content"]
        yield made["messages"][-2]["content"], wanted, answer, answer.strip() == wanted


def _needless(model: Model, count: int) -> Iterable[Item]:
    rng = random.Random("needless")
    for _ in range(count):
        question, fact = facts.exchange(rng, "held_out")
        offered = [each.as_json() for each in tools.offer(rng, "held_out", rng.randint(1, 3))]
        answer = model.chat([{"role": "user", "content": question}], offered, grammar.of_tools(offered))
        yield question, fact.answer, answer, _has(answer, fact.required)


def _asked(made: Json) -> tuple[list[Json], str]:
    """A one-turn sample's prompt messages and wanted answer."""
    return made["messages"][:-1], made["messages"][-1]["content"]


def _exact(model: Model, count: int, exercise: str) -> Iterable[Item]:
    rng = random.Random(exercise)
    for _ in range(count):
        made = conversations.sample(rng, exercise, "held_out")
        if "prompt" in made:
            asked, wanted, answer = made["prompt"], made["completion"], model.complete(made["prompt"])
        else:
            messages, wanted = _asked(made)
            asked, answer = messages[-1]["content"], model.chat(messages)
        yield asked, wanted, answer, answer.strip() == wanted.strip()


def measure(model: Model, scale: float = 1.0) -> list[Row]:
    """The whole table; `scale` shortens it for a quick look."""

    def n(count: int) -> int:
        return max(10, int(count * scale))

    phrases = "answer contains the fact's key phrases"
    call = "one call, right name, JSON-equal arguments"
    guided = list(_calls(model, n(400), constrained=True))
    free = list(_calls(model, n(400), constrained=False))
    unranked = list(_calls(model, n(400), constrained=True, ranked=False))
    return [
        _row("Questions about the appliance, new paraphrases", phrases, _questions(model, n(300))),
        _row("These and open-world ones as raw text, no chat template", phrases, _raw_questions(model, n(100))),
        _row("Tool calls on unseen tools, with grammar", call, guided),
        _row("- of these, asked in a way never trained on", call, _asked_anew(guided)),
        _row("Tool calls on unseen tools, without grammar", call, free),
        _row("- of these, asked in a way never trained on", call, _asked_anew(free)),
        _row("With grammar, the tools in the order given, not ranked by shared words", call, unranked),
        _row("Hand-written everyday tools, four offered, with grammar", call, _everyday(model)),
        _row("Answer from a tool's result", "exact text", _results(model, n(150))),
        _row("No tool fits: answer in words, with grammar", phrases, _needless(model, n(100))),
        _row("Spans from unseen passages", "exact text", _exact(model, n(300), "passages")),
        _row("Sums up to 50, products up to 10 x 10, unseen pairs", "exact text", _exact(model, n(150), "arithmetic")),
        _row("Open-world questions declined, new patterns", "says it is a starter model", _refusals(model, n(100))),
        _row("Repeat a text", "exact text", _exact(model, n(100), "repeat")),
    ]


def _table(rows: list[Row]) -> str:
    lines = ["| Skill | Right means | Items | Right |", "|---|---|---:|---:|"]
    lines += [f"| {row.skill} | {row.criterion} | {row.asked} | {row.share:.1%} |" for row in rows]
    return "\n".join(lines)


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


CARD = Path(__file__).with_name("card.md")


def card(model: Model, path: Path, rows: list[Row], asked: tuple[str, str]) -> str:
    """The model card: what it is, what was measured, what it cannot do."""
    head = model.header
    return CARD.read_text(encoding="utf-8").format(
        parameters=head["general.size_label"],
        layers=head["llama.block_count"],
        width=head["llama.embedding_length"],
        context=head["llama.context_length"],
        vocabulary=head["llama.vocab_size"],
        licence=head["general.license"],
        size=_size(path),
        tokens=int(head["starter.training_tokens"]) / 1e6,
        minutes=int(head["starter.training_seconds"]) / 60,
        seed=head["starter.recipe_seed"],
        hello=asked[0],
        raw=asked[1],
        date=datetime.date.today().isoformat(),
        table=_table(rows),
    )


def evaluate(path: Path, target: Path | None, scale: float = 1.0, misses: int = 0) -> list[Row]:
    """Measure `path`, print the table and some failures, and write the card."""
    model = Model(path)
    hello = "Hello, what can you do?"
    asked = (model.chat([{"role": "user", "content": hello}]).strip(), model.complete(hello).strip())
    rows = measure(model, scale)
    print(f"{asked[0]}\n{asked[1]}\n{_table(rows)}")
    for row in rows:
        for question, wanted, came in row.misses[:misses]:
            print(f"\n[{row.skill}]\nasked:  {question!r}\nwanted: {wanted!r}\ncame:   {came!r}")
    if target:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(card(model, path, rows, asked), encoding="utf-8")
    return rows
