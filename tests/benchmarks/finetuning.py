"""How fast an adapter trains, beside a plain loop over peft that does nothing else.

    .venv/bin/python -m tests.benchmarks.finetuning [--words 24] [--steps 8] [--turns 3] [--threads 2] [--write]

Both train the same network (starter-chat, dequantized), the same adapter and the same examples, with as many tokens in
a step. The plain loop is what one would write by hand: batches of padded examples, the loss of transformers, AdamW. It
and ours take turns, so that a machine that is busy for a while is busy for both. Tokens are those of examples, padding
left out. With ``--write`` the table goes into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from msgspec import structs

from appliance.domain.clock import SystemClock
from appliance.domain.training import Hyperparameters, TrainingKind, TrainingReport, TrainingTask
from appliance.engines.llama.examples import Example
from appliance.training.base import gguf_of, linear_names, open_base
from appliance.training.checkpoints import Checkpoints
from appliance.training.generation import Adapted, Trainee
from appliance.training.loop import Loop, Surroundings
from appliance.training.machine import prepare
from appliance.training.prompts import Examples
from appliance.training.prompts import prepare as prepare_examples
from appliance.training.rows import packed
from appliance.training.schedule import learning_rate
from appliance.training.stopping import StopSignal
from tests.benchmarks.report import table, where_and_when, write_section

BASE = Path(__file__).parents[2] / "models_store" / "weights" / "starter-chat.gguf"
EXAMPLES, BATCH, RANK = 256, 8, 16
WORDS = ("the", "river", "and", "a", "small", "house", "in", "winter", "where", "nobody", "had", "been", "for", "rain")


class Deaf:
    """Nobody listens to reports here."""

    def send(self, report: TrainingReport) -> None:
        """Nothing."""


def dataset(path: Path, longest: int) -> None:
    """Questions and answers of very different lengths, as real ones have."""
    dice = random.Random(1)
    with path.open("w") as file:
        for _ in range(EXAMPLES):
            length = int(longest * dice.random() ** 2) + 4
            text = " ".join(dice.choices(WORDS, k=length))
            file.write(json.dumps({"input": text, "output": text[: len(text) // 2]}) + "\n")


def ours(task: TrainingTask, examples: Examples, steps: int, folder: Path) -> Callable[[], float]:
    """Our loop with its reports and schedule; tokens a second of a run of some steps."""
    adapted = Adapted(task, gguf_of(task.base_path), torch.device(task.device))

    def run() -> float:
        trainee = Trainee(task, adapted, examples, Examples((), frozenset()))
        asked = structs.replace(task.hyperparameters, epochs=steps / trainee.steps_per_epoch)
        around = Surroundings(Deaf(), StopSignal(), SystemClock())
        loop = Loop(trainee, asked, lambda count: learning_rate(asked, 1e-3, count), Checkpoints(folder), around, "")
        tokens = sum(each.tokens for step in range(loop.steps) for each in trainee.passes(step))
        began = time.perf_counter()
        loop.run()
        return tokens / (time.perf_counter() - began)

    return run


def bare(task: TrainingTask, examples: Examples, steps: int) -> Callable[[], float]:
    """A plain loop over peft."""
    from peft import LoraConfig, get_peft_model

    device = torch.device(task.device)
    weights = gguf_of(task.base_path)
    base = open_base(weights, torch.float32, device)
    layers = linear_names(base, weights)
    model: Any = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=layers))
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)

    def batch(some: list[Example]) -> dict[str, torch.Tensor]:
        width = max(len(example.tokens) for example in some)
        ids, mask = torch.zeros(len(some), width, dtype=torch.long), torch.zeros(len(some), width, dtype=torch.long)
        labels = torch.full((len(some), width), -100)
        for row, example in enumerate(some):
            length = len(example.tokens)
            ids[row, :length] = torch.from_numpy(example.tokens.astype("int64"))
            mask[row, :length] = 1
            labels[row, :length] = torch.where(torch.from_numpy(example.learnt), ids[row, :length], -100)
        return {"input_ids": ids.to(device), "attention_mask": mask.to(device), "labels": labels.to(device)}

    def run() -> float:
        dice, tokens = random.Random(7), 0
        order = list(examples.examples)
        dice.shuffle(order)
        size = max(1, len(order) // rows_of_an_epoch(task, examples) * BATCH) if task.hyperparameters.packing else BATCH
        model.train()
        began = time.perf_counter()
        for step in range(steps):
            some = [order[(step * size + place) % len(order)] for place in range(size)]
            tokens += sum(len(example.tokens) for example in some)
            model(**batch(some)).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return tokens / (time.perf_counter() - began)

    return run


def rows_of_an_epoch(task: TrainingTask, examples: Examples) -> int:
    """Rows after packing: by that the plain loop gets as many examples in a step."""
    longest = max(len(example.tokens) for example in examples.examples)
    return len(packed(examples.examples, longest))


def measure(task: TrainingTask, steps: int, turns: int, folder: Path) -> tuple[float, float, float]:
    """Medians of our loop's and the plain one's tokens a second, and of the ratio of neighbours."""
    data = Path(task.dataset_path)
    examples = prepare_examples(Path(task.base_path), data, data.with_suffix(".npz"))
    mine, plain = ours(task, examples, steps, folder), bare(task, examples, steps)
    mine(), plain()  # the first run of either pays for memory that the others find
    pairs = [(mine(), plain()) for _ in range(turns)]
    return (
        statistics.median(one for one, _ in pairs),
        statistics.median(other for _, other in pairs),
        statistics.median(one / other for one, other in pairs),
    )


def main() -> None:
    """Measure, and say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, nargs="+", default=[24], help="of the longest inputs; one dataset each")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    prepare("cpu", arguments.threads)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for longest in arguments.words:
            data = folder / f"{longest}.jsonl"
            dataset(data, longest)
            for packing in (True, False):
                task = TrainingTask(
                    kind=TrainingKind.GENERATION,
                    base_path=str(BASE),
                    dataset_path=str(data),
                    checkpoint_folder=str(folder / "checkpoints"),
                    output_folder=str(folder / "output"),
                    hyperparameters=Hyperparameters(batch_size=BATCH, rank=RANK, packing=packing),
                    threads=arguments.threads,
                )
                mine, plain, ratio = measure(task, arguments.steps, arguments.turns, folder / "checkpoints")
                what = f"answers of up to {longest // 2} words, {'packed' if packing else 'a row each'}"
                rows.append((what, f"{mine:,.0f}", f"{plain:,.0f}", f"{ratio:.2f}"))
                print(*rows[-1], sep=" | ", flush=True)
    lines = ["", *table(["examples", "ours, tokens/s", "plain loop, tokens/s", "ratio"], rows), ""]
    lines += [where_and_when("torch", "transformers", "peft"), ""]
    print("\n".join(lines))
    if arguments.write:
        write_section("finetuning", lines)


if __name__ == "__main__":
    main()
