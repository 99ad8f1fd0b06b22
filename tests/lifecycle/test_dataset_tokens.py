"""Tokens are counted where no file can hurt the server, as training will count them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.domain.errors import ApplianceError, BadWeights, InvalidParameter
from appliance.domain.finetuning import SchemaType
from appliance.domain.models import Account, Artifact
from appliance.lifecycle import dataset_tokens
from appliance.lifecycle.dataset_lines import LineLimits
from appliance.lifecycle.dataset_tokens import DatasetTokens, TokenStatistics
from appliance.lifecycle.datasets import Datasets
from appliance.lifecycle.directory import Directory
from appliance.registry.accounts import accounts
from appliance.registry.database import Database
from appliance.registry.migrations import REGISTRY
from appliance.store.importing import Store
from tests.lifecycle import things
from tests.support.altered_gguf import write_crashing
from tests.support.fake_engine import FakeClock
from tests.support.processes import nothing_left_running
from tests.support.tiny_trainable import CONTEXT, write_trainable

MINE = things.caller("mine")
LIMITS = LineLimits(dataset_bytes=10_000, lines=100, line_bytes=1000)
ROWS = [{"input": "a", "output": "b"}, {"input": "one two three", "output": "four"}]


class Home:
    """A registry, a store, and the service over both; weights come into it untried."""

    def __init__(self, folder: Path) -> None:
        clock = FakeClock()
        self.database = Database(folder / "registry.db", REGISTRY, check=False)
        account = Account(id="mine", name="mine", created_at=clock.now())
        self.database.run_sync(lambda db: accounts.insert(db, account))
        self.store = Store(folder, clock, reserve_bytes=10)
        self.directory = Directory()
        self.directory.templates["t"] = things.template()
        self.datasets = Datasets(self.database, self.directory, self.store, LIMITS, 9, clock)
        self.tokens = DatasetTokens(self.datasets, self.directory, self.store)

    def take(self, path: Path, name: str) -> None:
        """A model over a file, named alike."""
        imported = self.store.import_paths([path])
        self.directory.artifacts[name] = Artifact(
            id=name,
            name=name,
            digest=imported.digest,
            files=imported.files,
            size_bytes=imported.size_bytes,
            card=imported.card,
            created_at=things.NOW,
            created_by_user_id="u",
        )
        self.directory.models[name] = things.model(name, model_template_id="t", creation_parameters={"weights": name})

    async def count(self, name: str, rows: list[dict[str, Any]] = ROWS) -> TokenStatistics:
        lines = [json.dumps(row).encode() + b"\n" for row in rows]
        dataset = await self.datasets.create(MINE, "examples", SchemaType.GENERATION, lines)
        return await self.tokens.of(MINE, dataset.id, name, None)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    made.take(write_trainable(tmp_path / "sound.gguf", "llama"), "sound")
    yield made
    made.database.close()


async def test_a_file_that_makes_llama_cpp_abort_costs_one_answer(home: Home, tmp_path: Path) -> None:
    """Its header passes every check and nobody has loaded it: the refusal says how the process ended, and the server
    lives and counts on."""
    home.take(write_crashing(tmp_path / "crashing.gguf", tmp_path / "sound.gguf"), "crashing")

    with pytest.raises(BadWeights, match="read the tokenizer of 'crashing' was ended by SIGABRT"):
        await home.count("crashing")

    found = await home.count("sound")
    assert (found.examples, found.sequence_length, found.longer) == (2, CONTEXT, 0)
    assert 0 < found.min_tokens < found.max_tokens
    assert found.total_tokens == found.min_tokens + found.max_tokens


async def test_what_a_template_refuses_is_said_with_its_line(home: Home, tmp_path: Path) -> None:
    """Not the child's status, but its words."""
    template = "{% if messages[0].content == 'x' %}{{ raise_exception('no x') }}{% endif %}"
    home.take(write_trainable(tmp_path / "strict.gguf", "llama", chat_template=template), "strict")
    with pytest.raises(InvalidParameter, match=r"line 2 of the dataset: .*no x"):
        await home.count("strict", [{"input": "x ", "output": "b"}, {"input": "x", "output": "b"}])


async def test_a_count_that_takes_too_long_is_ended(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a word on what to do; nothing goes on behind it."""
    monkeypatch.setattr(dataset_tokens, "COUNT_SECONDS", 0.0)
    complaint = "'examples' took more than 0 s and was ended; count a part"
    with nothing_left_running(), pytest.raises(InvalidParameter, match=complaint):
        await home.count("sound")


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ('print(\'{"type": "nonsense"}\')', BadWeights, "'sound' ended with status 0 before it had counted"),
        ('print(\'{"type": "counted", "examples": {}}\')', BadWeights, "'sound' ended with status 0 before"),
        ('print(\'{"type": "counted", "examples": {"5": -1}}\')', BadWeights, "before it had counted"),
        ("print('x' * (1 << 26))", BadWeights, "'sound' was ended by SIGKILL"),
        ("import os; os.kill(os.getpid(), 11)", BadWeights, "'sound' was ended by SIGSEGV"),
    ],
    ids=["nonsense", "nothing", "less than nothing", "endless", "crash"],
)
async def test_a_process_that_says_nothing_sensible(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, error: type[ApplianceError], words: str
) -> None:
    """Doubles of a process that a file has taken over: whatever it does is one refused count."""
    (tmp_path / "taken_over.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    home.tokens = DatasetTokens(home.datasets, home.directory, home.store, "taken_over")
    with pytest.raises(error, match=words):
        await home.count("sound")
