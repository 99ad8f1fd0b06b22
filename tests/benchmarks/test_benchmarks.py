"""Every benchmark measures: each is run at its smallest, so that a change of the product cannot break one unnoticed.

Whether a figure is good is nobody's promise here: machines differ.
"""

from __future__ import annotations

import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from tests.benchmarks import (
    calls,
    cost,
    load,
    onnx_engine,
    onnx_raw,
    onnx_texts,
    onnx_throughput,
    peer,
    report,
    shapes,
    startup,
    versus,
)
from tests.support.server import Server
from tests.support.starter_embed import starter_embed_folder
from tests.support.tiny_models import write_llama

STARTER_CHAT = Path(__file__).parents[2] / "models_store" / "weights" / "starter-chat.gguf"
FIGURES = load.Figures(
    answer_tokens_per_second=30.0,
    first_p50_seconds=0.2,
    first_p95_seconds=0.4,
    gap_p50_seconds=0.01,
    gap_max_seconds=0.05,
    prompt_tokens=100,
    cached_tokens=25,
    failed=0,
    error=None,
    intruder_first_seconds=1.5,
)
STAND_IN = """#!{python}
import http.server, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Health).serve_forever()
"""
"""In the place of llama-server: it is ready, and can do nothing."""
TIMING = onnx_throughput.Timing
Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a benchmark's ``main`` with these arguments and ``--write``; the report that it wrote into."""
    copy = tmp_path / report.REPORT.name
    shutil.copyfile(report.REPORT, copy)

    def run(benchmark: ModuleType, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [benchmark.__name__, *map(str, arguments), "--write"])
        monkeypatch.setattr(
            benchmark, "write_section", lambda name, lines: report.write_section(name, lines, report=copy)
        )
        benchmark.main()
        return copy.read_text()

    return run


def shrink(monkeypatch: pytest.MonkeyPatch, benchmark: ModuleType, **constants: object) -> None:
    for name, value in constants.items():
        monkeypatch.setattr(benchmark, name, value)


def written(text: str, section: str) -> str:
    return text.split(f"<!-- begin: {section} -->")[1].split(f"<!-- end: {section} -->")[0]


def test_calls(run: Run) -> None:
    """A log of a few calls is filled, and every question about it answered."""
    found = written(run(calls, "--calls", 50, "--turns", 1), "calls")
    assert "one more call, on the disk" in found
    assert "100 old calls forgotten" in found


def test_cost(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Steps of one and of two sequences are timed, and an engine's memory read."""
    grid = {"GRID": ((1, 16), (2, 16)), "MEMORY_GRID": ((1, 256),), "BATCH_TOKENS": 16, "SPARE_CELLS": 64}
    shrink(monkeypatch, cost, READ_BYTES=1 << 20, **grid)
    found = written(run(cost, "--weights", write_llama(tmp_path / "tiny.gguf")), "cost")
    assert "| 2 x 16 |" in found
    assert "| 1 slots, 256 cells |" in found


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks by a name that is going away
def test_finetuning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our loop and the plain one each train a step, packed and not."""
    for name in ("torch", "transformers", "peft"):
        pytest.importorskip(name, reason="the extra 'finetuning' is not installed")
    from tests.benchmarks import finetuning

    shrink(monkeypatch, finetuning, EXAMPLES=8, BATCH=2, RANK=2)
    found = written(run(finetuning, "--words", 4, "--steps", 1, "--turns", 1), "finetuning")
    assert "packed" in found
    assert "a row each" in found


class Started(Server):
    """A double whose server runs before it is started, and is not stopped: that of the other tests."""

    def __init__(self, server: Server) -> None:
        self.__dict__.update(server.__dict__)

    def start(self, port: int = 0) -> None:
        """Nothing."""

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Nothing."""
        return 0


def test_startup(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The server's memory is read when it is ready, and each starter called twice."""
    monkeypatch.setattr(sys, "argv", ["startup", "--turns", "1"])
    monkeypatch.setattr(startup, "Server", lambda _: Started(server))
    startup.main()
    assert "| starter-rerank, second call, seconds |" in capsys.readouterr().out


def test_onnx_raw() -> None:
    """The child process answers each question with a rate for every way."""
    ways = [onnx_raw.Way(budget=64, spinning=False), onnx_raw.Way(budget=0, spinning=True)]
    with onnx_raw.RawLoop(starter_embed_folder(), threads=1) as raw:
        for _ in range(2):
            rates = raw.rates(onnx_texts.texts("short", 2, 0), ways, seconds=0.01)
            assert len(rates) == 2
            assert min(rates) > 0


def test_onnx_throughput(run: Run, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The server that the other tests have is measured against the raw loop, and the engine against itself."""
    starter_embed_folder()
    facts = tmp_path / "facts.toml"
    facts.write_text('answer = "It is cold."\nanswer = "A river is wide."\n')
    shrink(monkeypatch, onnx_engine, FACTS=facts, CALLERS=2, CALLERS_TEXTS=2)
    few = dict.fromkeys(onnx_texts.KINDS, 2)
    monkeypatch.setattr(onnx_throughput, "texts", lambda _, count, seed: onnx_texts.texts("short", count, seed))
    shrink(monkeypatch, onnx_throughput, CLIENTS=(2,), KINDS=("short",), BUDGETS=(64,), LIST_TEXTS=2)
    shrink(monkeypatch, onnx_throughput, RAW_TEXTS=few, LISTED_TEXTS=few, THREADS=1)
    monkeypatch.setattr(onnx_throughput, "Timing", lambda turns, _: TIMING(turns, 0.01))
    monkeypatch.setattr(onnx_throughput, "running_server", lambda _: nullcontext(server))
    found = run(onnx_throughput, "--turns", 1, "--quick", "--part", "embeddings", "rerankings", "variants")
    assert "| short, 2 texts a request |" in written(found, "onnx-embeddings")
    assert "| short, one text a request |" in written(found, "onnx-rerankings")
    assert "| 8-bit weights against float32 |" in written(found, "onnx-variants")


def test_onnx_waits(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short text is timed alone, and while another client's list is tokenized and computed."""
    starter_embed_folder()
    shrink(monkeypatch, onnx_engine, BIG_LIST_TEXTS=64, TOKENIZING_SECONDS=0.0)
    found = onnx_engine.waits(server, 1)
    assert [len(seconds) for seconds in found.values()] == [1, 1, 1]
    assert "while a list of 64 long texts is computed" in found


@pytest.fixture
def folder(server: Server, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """As ``peer`` leaves one, with a stand-in for llama-server, where the server that the other tests have imports."""
    folder = server.home / "import" / "peer"
    peer.program(folder).parent.mkdir(parents=True)
    peer.program(folder).write_text(STAND_IN.format(python=sys.executable))
    peer.program(folder).chmod(0o755)
    vocabularies = folder / "llama_cpp_python-1" / "vendor" / "llama.cpp" / "models"
    vocabularies.mkdir(parents=True)
    shutil.copyfile(STARTER_CHAT, vocabularies / "ggml-vocab-qwen2.gguf")
    small = shapes.Shape(layers=1, width=64, heads=2, kv_heads=1, feed_forward_width=64)
    monkeypatch.setattr(shapes, "SHAPES", {"tiny": small})
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setattr(versus, "PEER_PORT", free.getsockname()[1])
    monkeypatch.setattr(versus, "running_server", lambda _home, **_environment: nullcontext(server))
    yield folder
    model = next(each for each in admin.get("/v3/models").json() if each["name"] == "measured")
    path = f"/v3/models/{model['id']}"
    for deployment in admin.get(f"{path}/deployments").json():
        admin.delete(f"{path}/deployments/{deployment['id']}").raise_for_status()
    admin.delete(path).raise_for_status()
    admin.delete("/admin/artifacts/weights").raise_for_status()
    shutil.rmtree(folder)


def test_versus(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of a shape are written and served by both sides, and what each was measured at stands in the table.

    The load is a double here, as llama-server is: ``test_load`` has the real one.
    """
    assert peer.build(folder) == peer.program(folder)
    asked = []

    def measured(scenario: load.Scenario, endpoint: load.Endpoint, seed: str) -> load.Figures:
        asked.append((seed, endpoint.model))
        return FIGURES

    monkeypatch.setattr(versus, "run", measured)
    found = written(run(versus, "--peer", folder, "--only", "tiny: 4 conv*", "--turns", 1), "llama-server-tiny")
    case = "tiny: 4 conversations of 5 turns"
    assert asked == [(f"{case}-0", "measured"), (f"{case}-0", "m")]
    assert f"| {case} | 30.0 / 30.0 = **1.00** |" in found
    assert f"- {case}: 75% of the prompt tokens were computed, 75% by llama-server." in found


def test_versus_tells_what_failed_and_when_the_intruder_was_served() -> None:
    """Beside the table stands what only some cases have to tell."""
    case = next(each for each in versus.CASES if each.scenario.intruder_words)
    failed = load.Figures(**{**{name: getattr(FIGURES, name) for name in FIGURES.__struct_fields__}, "failed": 2})
    failed.error = "503 busy"
    lines = versus._lines([(case, versus.Sides([failed], [FIGURES]))], turns=1, threads=2)
    assert f"- {case.name}: its first token after 1.50 / 1.50 = **1.00** s." in lines
    assert f"- {case.name}: 2 requests to the appliance failed, the first with: 503 busy" in lines


def test_figures() -> None:
    """Figures are those of the streams that were answered; the others are counted, and the first error is kept."""
    good = load.Stream(first_seconds=0.5, gaps_seconds=[0.1, 0.3], prompt_tokens=10, cached_tokens=4, answer_tokens=8)
    lost = load.Stream(error="500 a fault")
    found = load._figures([good, lost], [load.Stream(first_seconds=0.7)], seconds=2.0)
    assert (found.answer_tokens_per_second, found.first_p50_seconds, found.gap_max_seconds) == (4.0, 0.5, 0.3)
    assert (found.failed, found.error, found.intruder_first_seconds) == (1, "500 a fault", 0.7)


@pytest.mark.parametrize("schema", [None, versus.SCHEMA], ids=["prompt", "schema"])
def test_load(server: Server, schema: dict[str, object] | None) -> None:
    """Real streams, conversations and an intruder at a real server, whose readers' figures come back."""
    pytest.importorskip("aiohttp", reason="it is no dependency: pip install aiohttp")
    scenario = load.Scenario(
        clients=1,
        requests=2,
        prompt_words=4,
        answer_tokens=4 if schema is None else 100,
        intruder_words=4 if schema is None else 0,
        intruder_delay_seconds=0.0,
        schema=schema,
        turns=0 if schema else 2,
    )
    endpoint = load.Endpoint(url=server.url, model="starter-chat", key=server.member_key)
    found = load.run(scenario, endpoint, "seed")
    assert found.error is None
    assert found.answer_tokens_per_second > 0


def test_sections_without_marks_are_refused(tmp_path: Path) -> None:
    """Nothing is written where nobody has made room for it."""
    page = tmp_path / "page.md"
    page.write_text("<!-- begin: one -->\nold\n<!-- end: one -->\n")
    with pytest.raises(ValueError, match="has no single section 'other'"):
        report.write_section("other", ["new"], report=page)
    report.write_section("one", ["new"], report=page)
    assert page.read_text() == "<!-- begin: one -->\nnew\n<!-- end: one -->\n"
