"""What a training process is told and what it reports: the words between ``lifecycle`` and ``training``.

The process is ``python -m appliance.training FOLDER``. ``FOLDER/task.json`` is a `TrainingTask`; the process writes one
`TrainingReport` a line, as JSON, to its standard output and nothing else there (libraries' words go to standard error).
SIGTERM asks for a checkpoint and an end with `PAUSED_STATUS`; started again on the same folder it goes on from its last
checkpoint. SIGKILL loses what came after that checkpoint and nothing else. The process ends with 0 after
`TrainingEnded`, with 1 after `TrainingFailed`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct, field

TASK_FILE = "task.json"
PAUSED_STATUS = 75
"""The exit status of a process that was asked to stop and wrote a checkpoint (EX_TEMPFAIL of sysexits.h)."""


class TrainingKind(StrEnum):
    """What is trained."""

    GENERATION = "generation"
    """A LoRA adapter over a GGUF."""
    RERANKING = "reranking"
    """A cross-encoder over ONNX encoder weights."""
    EMBEDDING = "embedding"
    """An embedding model over ONNX encoder weights, by contrast."""


class Schedule(StrEnum):
    """How the learning rate goes after its warm-up."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


class Precision(StrEnum):
    """What a base computes in while an adapter over it is trained. The adapter itself is float32."""

    AUTO = "auto"
    """bfloat16 where the hardware computes it, else float32."""
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Hyperparameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train. Ranges are checked where the values enter; None means that the kind of training decides."""

    epochs: float = 3.0
    learning_rate: float | None = None
    schedule: Schedule = Schedule.COSINE
    warmup_ratio: float = 0.05
    """Share of the steps in which the learning rate rises."""
    batch_size: int = 8
    """Examples (packed rows, when packed) of one optimizer step."""
    micro_batch_size: int | None = None
    """Rows of one pass; gradients of a step are accumulated over its passes. None: what fits the memory asked for."""
    sequence_length: int | None = None
    """Tokens of a row. None: the longest example, at most what the base was made for."""
    packing: bool = True
    """Several short examples share a row, blind to each other."""
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    """Empty: every linear layer of the blocks."""
    validation_fraction: float = 0.1
    """Share of the examples held out when no validation set is given; 0: none."""
    early_stopping_patience: int | None = None
    """Validations without a better loss before it ends; None: it runs to its end."""
    validation_steps: int | None = None
    """Steps between two validations. None: one an epoch."""
    checkpoint_steps: int | None = None
    """Steps between two checkpoints. None: about one a minute."""
    seed: int = 0
    precision: Precision = Precision.AUTO


class TrainingTask(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training. Paths are absolute; none of them is made from a caller's words."""

    kind: TrainingKind
    base_path: str
    """A GGUF file, or a folder with ONNX weights and their tokenizer."""
    dataset_path: str
    """Checked JSON Lines: ``input``, ``output``; or ``messages``; or ``question``, ``chunk``, ``positive``."""
    validation_path: str | None = None
    checkpoint_folder: str
    output_folder: str
    """Where the result is written, complete before `TrainingEnded` is reported."""
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    threads: int = 1
    device: str = "cpu"
    """``cpu`` or ``cuda:N``."""
    memory_bytes: int | None = None
    """What the scheduler has booked for it."""


class TrainingStarted(Struct, frozen=True, kw_only=True, tag="started"):
    """What will be done: known after base and dataset are read."""

    examples: int
    validation_examples: int
    tokens: int
    """Of one epoch, padding left out."""
    trained_tokens: int
    """Those of them that the loss counts."""
    steps: int
    trainable_parameters: int
    resumed_step: int = 0
    """The step of the checkpoint it goes on from; 0: from the beginning."""


class TrainingProgress(Struct, frozen=True, kw_only=True, tag="step"):
    """One optimizer step."""

    step: int
    steps: int
    epoch: float
    loss: float
    learning_rate: float
    tokens_per_second: float
    eta_seconds: float
    validation_loss: float | None = None


class TrainingCheckpoint(Struct, frozen=True, kw_only=True, tag="checkpoint"):
    """Everything up to ``step`` is on disk."""

    step: int


class TrainingMemory(Struct, frozen=True, kw_only=True, tag="memory"):
    """The most bytes it has held so far."""

    peak_bytes: int


class Evaluation(Struct, frozen=True, kw_only=True):
    """Base and candidate side by side on the held-out examples."""

    examples: int
    base: dict[str, float]
    """By metric: ``loss``, ``perplexity``, ``exact_match``; or ``mrr``, ``ndcg_at_10``, ``accuracy``."""
    candidate: dict[str, float]


class TrainingEnded(Struct, frozen=True, kw_only=True, tag="ended"):
    """The result is in the output folder."""

    files: tuple[str, ...]
    """Names in the output folder: ``adapter.gguf``, or those of an ONNX folder."""
    steps: int
    stopped_early: bool = False
    train_loss: float | None = None
    validation_loss: float | None = None
    evaluation: Evaluation | None = None


class TrainingFailed(Struct, frozen=True, kw_only=True, tag="failed"):
    """It cannot go on; ``detail`` says why and what would help."""

    detail: str


TrainingReport: TypeAlias = (
    TrainingStarted | TrainingProgress | TrainingCheckpoint | TrainingMemory | TrainingEnded | TrainingFailed
)
