"""Training: an endless stream of fresh samples, Muon for the matrices, a budget in minutes.

Called by the command line. Writes a checkpoint every few minutes; resuming keeps the weights and the optimizers but
may change the data. Needs torch; nothing else in the recipe but `model` and `export` does.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from . import conversations, tokenizer
from .model import Llama, Shape
from .muon import Muon

SAVE_SECONDS = 120
REPORT_SECONDS = 900

WIDTHS = tuple(range(32, 385, 16))
"""Row lengths in tokens; rows are padded to the next one."""


@dataclass(frozen=True)
class Settings:
    """What may differ between runs."""

    minutes: float
    seed: int = 1
    batch_tokens: int = 6144
    muon_rate: float = 0.02
    adam_rate: float = 3e-3
    warmup_steps: int = 40
    decay_from: float = 0.55
    """Share of the time after which the rates fall linearly to zero."""
    ramp: float = 0.35
    """Share of the time over which samples grow to full length."""
    prompt_weight: float = 0.15
    """Weight of the loss on text the model does not write, at the start; it falls to zero with the ramp."""
    long_share: float = 0.03
    """Share of batches whose rows are filled with many conversations up to the full context."""


Row = tuple[list[int], list[float]]
"""Token ids and the weight of the loss on each of them as a target."""


def encode(codec: Tokenizer, made: dict[str, Any], prompt_weight: float) -> Row:
    """A sample as ids; what the model writes weighs 1."""
    ids: list[int] = []
    weights: list[float] = []
    for text, ours in conversations.segments(made):
        part = codec.encode(text, add_special_tokens=False).ids
        ids += part
        weights += [1.0 if ours else prompt_weight] * len(part)
    return ids, weights


class Batches:
    """Rows of like length together, so that little is padding."""

    def __init__(self, codec: Tokenizer, settings: Settings, seed: int) -> None:
        self.codec, self.settings = codec, settings
        self.rng = random.Random(seed)
        self.waiting: dict[int, list[Row]] = {width: [] for width in (*WIDTHS, Shape.context_tokens)}

    def _rows(self, progress: float) -> Iterator[Row]:
        weight = self.settings.prompt_weight * (1 - progress)
        for made in conversations.stream(self.rng.getrandbits(48), progress=progress):
            yield encode(self.codec, made, weight)

    def _long(self, progress: float) -> Row:
        """One row of the full context, filled with whole conversations."""
        ids: list[int] = []
        weights: list[float] = []
        for more, other in self._rows(progress):
            if len(ids) + len(more) > Shape.context_tokens:
                return ids, weights
            ids, weights = ids + more, weights + other
        raise AssertionError("the stream is endless")

    def next(self, progress: float) -> tuple[Tensor, Tensor]:
        """Ids and weights, each (rows, width)."""
        if self.rng.random() < self.settings.long_share * progress:
            width = Shape.context_tokens
            rows = [self._long(progress) for _ in range(max(1, self.settings.batch_tokens // width))]
            return self._padded(rows, width)
        for row in self._rows(progress):
            width = next((w for w in WIDTHS if len(row[0]) <= w + 1), 0)
            if not width:
                continue
            self.waiting[width].append(row)
            if len(self.waiting[width]) * width >= self.settings.batch_tokens:
                rows, self.waiting[width] = self.waiting[width], []
                return self._padded(rows, width)
        raise AssertionError("the stream is endless")

    @staticmethod
    def _padded(rows: list[Row], width: int) -> tuple[Tensor, Tensor]:
        ids = torch.zeros(len(rows), width + 1, dtype=torch.long)
        weights = torch.zeros(len(rows), width + 1)
        for index, (row, weight) in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            weights[index, : len(row)] = torch.tensor(weight)
        return ids, weights


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself; emulated, it is 25 times slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def precision() -> torch.autocast:
    """bfloat16 for matrix products where the processor has it, else float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16())


def loss_of(network: Llama, ids: Tensor, weights: Tensor) -> Tensor:
    """Mean cross entropy over the weighted targets of a batch (rows, width + 1)."""
    chosen = weights[:, 1:] > 0
    with precision():
        scores = network.logits(network(ids[:, :-1], chosen))
    each = functional.cross_entropy(scores.float(), ids[:, 1:][chosen], reduction="none")
    weight = weights[:, 1:][chosen]
    return (each * weight).sum() / weight.sum()


def optimizers(network: Llama, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the embedding and the norms."""
    matrices = [p for p in network.blk.parameters() if p.ndim == 2]
    known = {id(p) for p in matrices}
    others = [p for p in network.parameters() if id(p) not in known]
    dtype = torch.bfloat16 if has_bfloat16() else torch.float32
    muon = Muon(matrices, lr=settings.muon_rate, momentum=0.95, weight_decay=0.01, dtype=dtype)
    adam = torch.optim.AdamW(others, lr=settings.adam_rate, betas=(0.9, 0.95), weight_decay=0.0)
    return [muon, adam]


def exact(network: Llama, codec: Tokenizer, exercise: str, count: int = 64) -> float:
    """Share of held-out samples whose every written token is the network's first choice."""
    rng = random.Random(f"exact {exercise}")
    right = 0
    for _ in range(count):
        ids, weights = encode(codec, conversations.sample(rng, exercise, "held_out", 1.0), 0.0)
        row, ours = torch.tensor([ids]), torch.tensor([weights])[:, 1:] > 0
        with torch.no_grad(), precision():
            guess = network.logits(network(row[:, :-1], ours)).argmax(-1)
        right += bool((guess == row[:, 1:][ours]).all())
    return right / count


def rate_scale(settings: Settings, share: float, step: int) -> float:
    """The factor on the learning rates: up at once, level, then down to zero; `share` is the time spent, 0 to 1."""
    rise = (step + 1) / settings.warmup_steps
    fall = (1 - share) / (1 - settings.decay_from)
    return max(0.0, min(1.0, rise, fall))


@dataclass
class Spent:
    """What a model has cost so far, over all its runs."""

    tokens: int = 0
    seconds: float = 0.0
    progress: float = 0.0
    """How far samples have grown, 0 to 1."""


class Run:
    """One stretch of training: the network, its optimizers and where they are kept."""

    def __init__(self, folder: Path, settings: Settings, resume: Path | None) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.target = folder / "checkpoint.pt"
        self.codec = tokenizer.load(folder / "tokenizer.json")
        self.network = Llama(Shape(vocabulary=self.codec.get_vocab_size()))
        self.tools = optimizers(self.network, settings)
        self.spent = Spent()
        if resume:
            self._restore(resume)
        self.batches = Batches(self.codec, settings, settings.seed)

    def _restore(self, path: Path) -> None:
        kept = torch.load(path, weights_only=True)
        self.network.load_state_dict(kept["model"])
        if kept["optimizers"]:  # a reopened file has none
            for tool, state in zip(self.tools, kept["optimizers"], strict=True):
                tool.load_state_dict(state)
        self.spent = Spent(kept["tokens"], kept["seconds"], kept["progress"])

    def save(self, seconds: float) -> None:
        """Write the checkpoint; `seconds` is the time spent in this run."""
        made = {
            "model": self.network.state_dict(),
            "optimizers": [tool.state_dict() for tool in self.tools],
            "shape": self.network.shape.as_dict(),
            "tokens": self.spent.tokens,
            "seconds": self.spent.seconds + seconds,
            "progress": self.spent.progress,
            "seed": self.settings.seed,
        }
        torch.save(made, self.target.with_suffix(".new"))
        self.target.with_suffix(".new").rename(self.target)

    def step(self, share: float, number: int) -> float:
        """One batch; returns its loss."""
        settings = self.settings
        self.spent.progress = min(1.0, max(self.spent.progress, share / settings.ramp))
        scale = rate_scale(settings, share, number)
        for tool, rate in zip(self.tools, (settings.muon_rate, settings.adam_rate), strict=True):
            for group in tool.param_groups:
                group["lr"] = rate * scale
        ids, weights = self.batches.next(self.spent.progress)
        loss = loss_of(self.network, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for tool in self.tools:
            tool.step()
        self.network.zero_grad(set_to_none=True)
        self.spent.tokens += ids.numel()
        return float(loss.item())

    def report(self) -> dict[str, float]:
        """Exact answers per exercise, a rough look while training goes on."""
        return {each: round(exact(self.network, self.codec, each), 2) for each in conversations.MIX if each != "chant"}


def train(folder: Path, settings: Settings, resume: Path | None = None) -> Path:
    """Train for the given time and return the checkpoint's path; `folder` holds `tokenizer.json`."""
    run = Run(folder, settings, resume)
    start = reported = saved = time.monotonic()
    number, recent = 0, 0.0
    while (elapsed := time.monotonic() - start) < settings.minutes * 60:
        loss = run.step(elapsed / (settings.minutes * 60), number)
        number, recent = number + 1, loss if number == 0 else 0.95 * recent + 0.05 * loss
        if number % 25 == 0:
            print(
                f"{elapsed:6.0f} s  step {number}  {run.spent.tokens / 1e6:.2f}M tokens  loss {recent:.3f}", flush=True
            )
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            print(run.report(), flush=True)
        if time.monotonic() - saved > SAVE_SECONDS:
            saved = time.monotonic()
            run.save(elapsed)
    run.save(elapsed)
    return run.target
