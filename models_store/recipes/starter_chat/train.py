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

WIDTHS = (64, 96, 128, 192, 256, 384, 512)
"""Row lengths in tokens; each is compiled once."""


@dataclass(frozen=True)
class Settings:
    """What may differ between runs."""

    minutes: float
    seed: int = 1
    batch_tokens: int = 8192
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
    compile: bool = True


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


def loss_of(network: Llama, run: Any, ids: Tensor, weights: Tensor) -> Tensor:
    """Mean cross entropy over the weighted targets of a batch (rows, width + 1)."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = run(ids[:, :-1])
        chosen = weights[:, 1:] > 0
        scores = network.logits(hidden[chosen])
    each = functional.cross_entropy(scores.float(), ids[:, 1:][chosen], reduction="none")
    weight = weights[:, 1:][chosen]
    return (each * weight).sum() / weight.sum()


def optimizers(network: Llama, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the embedding and the norms."""
    matrices = [p for p in network.blk.parameters() if p.ndim == 2]
    known = {id(p) for p in matrices}
    others = [p for p in network.parameters() if id(p) not in known]
    muon = torch.optim.Muon(matrices, lr=settings.muon_rate, momentum=0.95, weight_decay=0.01)
    adam = torch.optim.AdamW(others, lr=settings.adam_rate, betas=(0.9, 0.95), weight_decay=0.0)
    return [muon, adam]


@torch.no_grad()
def exact(network: Llama, codec: Tokenizer, exercise: str, count: int = 96) -> float:
    """Share of held-out samples whose every written token is the network's first choice."""
    rng = random.Random(f"exact {exercise}")
    right = 0
    for _ in range(count):
        made = conversations.sample(rng, exercise, "held_out", 1.0)
        ids, weights = encode(codec, made, 0.0)
        row = torch.tensor([ids])
        with torch.autocast("cpu", torch.bfloat16):
            guess = network.logits(network(row[:, :-1])[0]).argmax(-1)
        ours = torch.tensor(weights)[1:] > 0
        right += bool((guess == row[0, 1:])[ours].all())
    return right / count


def _save(path: Path, network: Llama, tools: list[torch.optim.Optimizer], state: dict[str, Any]) -> None:
    made = {
        "model": network.state_dict(),
        "optimizers": [t.state_dict() for t in tools],
        "shape": network.shape.as_dict(),
        **state,
    }
    torch.save(made, path.with_suffix(".new"))
    path.with_suffix(".new").rename(path)


def _set_rates(tools: list[torch.optim.Optimizer], settings: Settings, share: float, step: int) -> None:
    scale = min(1.0, (step + 1) / settings.warmup_steps, max(0.0, (1 - share) / (1 - settings.decay_from)))
    for tool, rate in zip(tools, (settings.muon_rate, settings.adam_rate), strict=True):
        for group in tool.param_groups:
            group["lr"] = rate * scale


def train(folder: Path, settings: Settings, resume: Path | None = None) -> Path:
    """Train for the given time and return the checkpoint's path; `folder` holds `tokenizer.json`."""
    torch.manual_seed(settings.seed)
    codec = tokenizer.load(folder / "tokenizer.json")
    network = Llama(Shape(vocabulary=codec.get_vocab_size()))
    tools = optimizers(network, settings)
    tokens = seconds_before = 0
    progress_before = 0.0
    if resume:
        kept = torch.load(resume, weights_only=False)
        network.load_state_dict(kept["model"])
        for tool, state in zip(tools, kept["optimizers"], strict=True):
            tool.load_state_dict(state)
        tokens, seconds_before, progress_before = kept["tokens"], kept["seconds"], kept["progress"]
    batches = Batches(codec, settings, settings.seed)
    run = torch.compile(network, dynamic=False) if settings.compile else network
    start = said = saved = time.monotonic()
    step, recent = 0, 0.0
    target = folder / "checkpoint.pt"
    while (elapsed := time.monotonic() - start) < settings.minutes * 60:
        share = elapsed / (settings.minutes * 60)
        progress = min(1.0, max(progress_before, share / settings.ramp))
        ids, weights = batches.next(progress)
        _set_rates(tools, settings, share, step)
        loss = loss_of(network, run, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for tool in tools:
            tool.step()
        network.zero_grad(set_to_none=True)
        tokens, step, recent = tokens + ids.numel(), step + 1, 0.95 * recent + 0.05 * loss.item()
        if step % 25 == 0:
            print(
                f"{elapsed:6.0f}s step {step} tokens {tokens / 1e6:.2f}M loss {recent:.3f} progress {progress:.2f}",
                flush=True,
            )
        state = {"tokens": tokens, "seconds": seconds_before + elapsed, "progress": progress, "seed": settings.seed}
        if time.monotonic() - said > 300:
            said = time.monotonic()
            print({e: round(exact(network, codec, e), 2) for e in conversations.MIX if e not in ("chant",)}, flush=True)
        if time.monotonic() - saved > 180:
            saved = time.monotonic()
            _save(target, network, tools, state)
    _save(target, network, tools, state)
    return target
