"""A LoRA adapter over a GGUF: the network, its rows, its result."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from appliance.domain.errors import InvalidParameter
from appliance.domain.trainable import ALONE, SCORES_KEPT, against_half
from appliance.domain.training import Precision, TrainingEnded, TrainingMemory, TrainingStarted, TrainingTask
from appliance.domain.training_memory import FLOAT_BYTES, TRAINED_COPIES, TokenSizes
from appliance.engines.llama.examples import Example
from appliance.store.gguf_weights import Array, GgufWeights
from appliance.store.lora import Factors, write_adapter
from appliance.training.base import check_trainable, gguf_of, has_turned_layers, linear_names, open_base
from appliance.training.checkpoints import Checkpoints
from appliance.training.configs import inner_width
from appliance.training.evaluation import evaluate
from appliance.training.loop import Loop, Pass, Surroundings
from appliance.training.machine import computes_in_half, peak_bytes, prepare
from appliance.training.prompts import Examples
from appliance.training.prompts import prepare as prepare_examples
from appliance.training.rows import IGNORED, Row, alone, held_out, laid_out, packed, shuffled
from appliance.training.schedule import learning_rate
from appliance.training.wholes import write_whole

ADAPTER = "adapter.gguf"
LEARNING_RATE = 2e-4
PASS_TOKENS = 2048
"""Tokens of a pass where no memory was named."""


def run(task: TrainingTask, surroundings: Surroundings) -> TrainingEnded | None:
    """Train and write the adapter; None when it was asked to stop. Raises ApplianceError."""
    device = prepare(task.device, task.threads)
    weights = gguf_of(task.base_path)
    check_trainable(weights)
    train, held = _examples(task, weights)
    adapted = Adapted(task, weights, device)
    trainee = Trainee(task, adapted, train, held)
    loop = Loop(
        trainee,
        task.hyperparameters,
        lambda steps: learning_rate(task.hyperparameters, LEARNING_RATE, steps),
        Checkpoints(Path(task.checkpoint_folder)),
        surroundings,
        fingerprint(task),
    )
    resumed_step = loop.begin()
    surroundings.reports.send(trainee.described(loop.steps, resumed_step))
    outcome = loop.run()
    if outcome.paused:
        return None
    output = Path(task.output_folder)
    output.mkdir(parents=True, exist_ok=True)
    write_whole(output / ADAPTER, lambda place: adapted.export(place, weights))
    evaluation = evaluate(adapted, trainee.mean_loss, held) if held.examples else None
    surroundings.reports.send(TrainingMemory(peak_bytes=peak_bytes(device)))
    return TrainingEnded(
        files=(ADAPTER,),
        steps=outcome.steps,
        stopped_early=outcome.stopped_early,
        train_loss=outcome.train_loss,
        validation_loss=outcome.validation_loss,
        evaluation=evaluation,
    )


def fingerprint(task: TrainingTask) -> str:
    """What a checkpoint must have been written for: all of the task that decides what is computed."""
    data = b"".join(Path(path).read_bytes() for path in (task.dataset_path, task.validation_path) if path)
    parts = (task.kind, Path(task.base_path).name, task.hyperparameters, hashlib.sha256(data).hexdigest())
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _examples(task: TrainingTask, weights: GgufWeights) -> tuple[Examples, Examples]:
    """What is trained on, and what is held out."""
    folder, asked = Path(task.checkpoint_folder), task.hyperparameters
    base = Path(task.base_path)
    given = prepare_examples(base, Path(task.dataset_path), folder / "examples.npz")
    if task.validation_path:
        held = prepare_examples(base, Path(task.validation_path), folder / "validation.npz")
        train = given
    else:
        kept = set(held_out(len(given.examples), asked.validation_fraction, asked.seed))
        train = _chosen(given, lambda index: index not in kept)
        held = _chosen(given, lambda index: index in kept)
    _check_lengths(task, weights, [*train.examples, *held.examples])
    if not any(example.learnt[1:].any() for example in train.examples):
        raise InvalidParameter("no example has an answer to learn; send outputs, or turns of the assistant")
    return train, held


def _chosen(given: Examples, wanted: Callable[[int], bool]) -> Examples:
    return Examples(tuple(one for index, one in enumerate(given.examples) if wanted(index)), given.ends)


def _check_lengths(task: TrainingTask, weights: GgufWeights, examples: Sequence[Example]) -> None:
    made_for = weights.count("context_length")
    if (task.hyperparameters.sequence_length or 0) > made_for:
        raise InvalidParameter(
            f"sequence_length {task.hyperparameters.sequence_length} is more than the {made_for} tokens "
            "that the base was made for; lower it"
        )
    limit = task.hyperparameters.sequence_length or made_for
    longest = max(len(example.tokens) for example in examples)
    if longest > limit:
        too_long = sum(len(example.tokens) > limit for example in examples)
        what = "sequence_length" if task.hyperparameters.sequence_length else "what the base was made for"
        raise InvalidParameter(
            f"{too_long} of {len(examples)} examples are longer than {limit} tokens, {what}; the longest has "
            f"{longest}. "
            "Nothing is cut: shorten or split them" + (", or raise sequence_length" if limit < made_for else "")
        )


class Adapted:
    """A base with an adapter over it."""

    def __init__(self, task: TrainingTask, weights: GgufWeights, device: torch.device) -> None:
        asked = task.hyperparameters
        self.device = device
        self.packs = weights.architecture not in ALONE
        self.is_half = _in_half(asked.precision, weights, device)
        base = open_base(weights, torch.bfloat16 if self.is_half else torch.float32, device)
        self.sizes = token_sizes(weights)
        targets = _targets(base, weights, task)
        self.model = _with_adapter(base, asked.rank, asked.alpha, asked.dropout, targets, asked.seed)
        self._scale, self._alpha = asked.alpha / asked.rank, asked.alpha
        self.parameters: dict[str, nn.Parameter] = {
            name: value for name, value in self.model.named_parameters() if value.requires_grad
        }

    def logits(self, tokens: Tensor, positions: Tensor, places: Tensor) -> Tensor:
        """Scores (rows, chosen places, vocabulary) at places counted along the rows."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_half):
            found: Tensor = self.model(
                input_ids=tokens, position_ids=positions, logits_to_keep=places, use_cache=False
            ).logits
        return found

    def loss(self, rows: Sequence[Row]) -> Tensor:
        """The sum over all learnt tokens, in float32."""
        laid = laid_out(rows, self.device)
        places = (laid.labels != IGNORED).any(dim=0).nonzero().flatten()
        if not len(places):
            return torch.zeros((), device=self.device)
        scores = self.logits(laid.tokens, laid.positions, places).float()
        labels = laid.labels[:, places]
        return functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")

    def export(self, place: Path, weights: GgufWeights) -> None:
        """The adapter as GGUF."""
        write_adapter(place, weights, self.factors(), self._alpha)

    def factors(self) -> dict[str, Factors]:
        """By module name of the base."""
        found = {}
        for name, down in self.parameters.items():
            module, kind, _ = name.partition(".lora_A.")
            if kind:
                up = self.parameters[name.replace(".lora_A.", ".lora_B.")]
                found[module.removeprefix("base_model.model.")] = Factors(_array(down), _array(up), self._scale)
        return found


def _in_half(asked: Precision, weights: GgufWeights, device: torch.device) -> bool:
    """Raises InvalidParameter where 16 bits are asked for and would not do."""
    against = against_half(weights.architecture)
    if against is not None and asked is Precision.BFLOAT16:
        raise InvalidParameter(f"precision: '{weights.name}' {against}")
    return against is None and computes_in_half(asked, device)


def token_sizes(weights: GgufWeights) -> TokenSizes:
    """As the file tells them."""
    return TokenSizes(
        layers=weights.layers,
        width=weights.count("embedding_length"),
        inner_width=inner_width(weights),
        kept_heads=weights.heads if weights.architecture in SCORES_KEPT else 0,
        vocabulary=weights.shape("token_embd.weight")[0],
    )


def _array(parameter: nn.Parameter) -> Array:
    found: Array = parameter.detach().float().cpu().numpy()
    return found


def _targets(base: nn.Module, weights: GgufWeights, task: TrainingTask) -> list[str]:
    """Raises InvalidParameter for a module that the base does not have."""
    known = linear_names(base, weights)
    if unknown := sorted(set(task.hyperparameters.target_modules) - set(known)):
        raise InvalidParameter(f"target_modules: this base has no '{unknown[0]}'; it has {', '.join(known)}")
    return list(task.hyperparameters.target_modules) or known


def _with_adapter(base: nn.Module, rank: int, alpha: float, dropout: float, targets: list[str], seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        fan_in_fan_out=has_turned_layers(base),
        bias="none",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is going away
        return get_peft_model(base, config)


class Trainee:
    """``loop.Trainee`` over rows of examples."""

    def __init__(self, task: TrainingTask, adapted: Adapted, train: Examples, held: Examples) -> None:
        self._asked = task.hyperparameters
        self._adapted = adapted
        self._train, self._held = train, held
        longest = max(len(example.tokens) for example in (*train.examples, *held.examples))
        self._row_tokens = self._asked.sequence_length or longest
        self._rows = [row for row in self._as_rows(train) if row.learnt]
        self._held_rows = [row for row in self._as_rows(held) if row.learnt]
        self._micro = self._asked.micro_batch_size or micro_batch_size(task, adapted, self._row_tokens)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._adapted.device

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The adapter's."""
        return self._adapted.parameters

    @property
    def steps_per_epoch(self) -> int:
        """The last may have fewer rows."""
        return math.ceil(len(self._rows) / self._asked.batch_size)

    def passes(self, step: int) -> list[Pass]:
        """Rows of alike lengths go together, so that little is padding."""
        epoch, index = divmod(step, self.steps_per_epoch)
        order = shuffled(len(self._rows), self._asked.seed, epoch)
        size = self._asked.batch_size
        rows = [self._rows[place] for place in order[index * size : (index + 1) * size]]
        rows.sort(key=lambda row: -row.tokens)
        return [self._pass(rows[at : at + self._micro]) for at in range(0, len(rows), self._micro)]

    def _pass(self, rows: Sequence[Row]) -> Pass:
        return Pass(
            loss=partial(self._learn, rows),
            weight=sum(row.learnt for row in rows),
            tokens=sum(row.tokens for row in rows),
        )

    def _learn(self, rows: Sequence[Row]) -> Tensor:
        self._adapted.model.train()
        return self._adapted.loss(rows)

    def validation_loss(self) -> float | None:
        """Mean over the learnt tokens that are held out."""
        return self.mean_loss() if self._held_rows else None

    def mean_loss(self) -> float:
        """The same, as the network is now: with the adapter or without."""
        self._adapted.model.eval()
        ordered = sorted(self._held_rows, key=lambda row: -row.tokens)
        with torch.no_grad():
            losses = [
                float(self._adapted.loss(ordered[at : at + self._micro])) for at in range(0, len(ordered), self._micro)
            ]
        return sum(losses) / max(sum(row.learnt for row in ordered), 1)

    def _as_rows(self, given: Examples) -> list[Row]:
        share = self._asked.packing and self._adapted.packs
        return packed(given.examples, self._row_tokens) if share else alone(given.examples)

    def described(self, steps: int, resumed_step: int) -> TrainingStarted:
        """The first report."""
        return TrainingStarted(
            examples=len(self._train.examples),
            validation_examples=len(self._held.examples),
            tokens=sum(row.tokens for row in self._rows),
            trained_tokens=sum(row.learnt for row in self._rows),
            steps=steps,
            trainable_parameters=sum(value.numel() for value in self.parameters.values()),
            resumed_step=resumed_step,
        )


def micro_batch_size(task: TrainingTask, adapted: Adapted, row_tokens: int) -> int:
    """Rows of a pass: what the memory that was named has room for beside the weights, at least one."""
    if task.memory_bytes is None:
        return max(1, PASS_TOKENS // row_tokens)
    held_bytes = sum(value.numel() * value.element_size() for value in adapted.model.parameters())
    trained_bytes = sum(value.numel() for value in adapted.parameters.values()) * FLOAT_BYTES
    held_bytes += trained_bytes * (TRAINED_COPIES - 1)  # the parameters themselves are the model's
    room_bytes = task.memory_bytes - held_bytes - peak_bytes(torch.device("cpu")) // 4
    return max(1, min(int(room_bytes // (adapted.sizes.token_bytes(row_tokens) * row_tokens)), 64))
