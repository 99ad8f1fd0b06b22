"""Training of rerankers and embedders over ONNX encoders, from the task to a folder that the store imports.

Called by the process for the kinds RERANKING and EMBEDDING. Before the first step, and again when the result is
written, ONNX Runtime is asked whether it computes what PyTorch does: what is trained is what was served, and what is
served is what was trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import torch
from msgspec import structs

from appliance.domain.errors import Internal, InvalidParameter, WrongWeights
from appliance.domain.training import (
    Evaluation,
    Hyperparameters,
    Precision,
    TrainingEnded,
    TrainingKind,
    TrainingMemory,
    TrainingStarted,
    TrainingTask,
)
from appliance.encoders.folder import MODEL, write_encoder
from appliance.engines.base import CPU
from appliance.engines.onnx.session import Session
from appliance.engines.onnx.tasks import POOLINGS, Floats, pad, relevance, unit, unpad
from appliance.training import encoder_metrics
from appliance.training.checkpoints import Checkpoints
from appliance.training.encoder_base import Text, open_base
from appliance.training.encoder_data import (
    Question,
    RankingTask,
    check_apart,
    held_out,
    ranking_tasks,
    read_questions,
    with_negatives,
)
from appliance.training.encoder_embedder import Embedder
from appliance.training.encoder_ranker import Ranker
from appliance.training.encoder_trainee import LEARNING_RATE
from appliance.training.loop import Loop, Outcome, Surroundings
from appliance.training.machine import peak_bytes, prepare
from appliance.training.schedule import learning_rate

PRODUCER: Final = "model-appliance training"
_PROBES: Final = 8
_COSINE: Final = 0.9999
_SCORE_TOLERANCE: Final = 1e-2
_OF_ADAPTERS: Final = ("rank", "alpha", "target_modules")


def run(task: TrainingTask, around: Surroundings) -> TrainingEnded | None:
    """Train and write the result; None when it was asked to stop and wrote a checkpoint. Raises ApplianceError."""
    _check_hyperparameters(task.hyperparameters)
    device = prepare(task.device, task.threads)
    base = open_base(task)
    training, validation = _questions(task)
    tasks = ranking_tasks(validation, training, task.hyperparameters.seed)
    ranks = task.kind is TrainingKind.RERANKING
    trainee = (Ranker if ranks else Embedder)(base, training, validation, tasks, task, device)
    _check_reading(trainee, training, task.threads)
    loop = Loop(
        trainee,
        task.hyperparameters,
        partial(learning_rate, task.hyperparameters, LEARNING_RATE),
        Checkpoints(Path(task.checkpoint_folder)),
        around,
        _fingerprint(task),
    )
    resumed_step = loop.begin()
    around.reports.send(
        TrainingStarted(
            examples=trainee.examples,
            validation_examples=trainee.validation_examples,
            tokens=trainee.tokens,
            trained_tokens=trainee.tokens,
            steps=loop.steps,
            trainable_parameters=sum(value.numel() for value in trainee.parameters.values()),
            resumed_step=resumed_step,
        )
    )
    outcome = loop.run()
    if outcome.paused:
        return None
    ended = _ended(task, trainee, training, tasks, outcome)
    around.reports.send(TrainingMemory(peak_bytes=peak_bytes(device)))
    return ended


def _ended(
    task: TrainingTask,
    trainee: Ranker | Embedder,
    training: Sequence[Question],
    tasks: Sequence[RankingTask],
    outcome: Outcome,
) -> TrainingEnded:
    """Write, check and evaluate what was trained."""
    base, out = trainee.network.base, Path(task.output_folder)
    files = write_encoder(structs.replace(base.made, weights=trainee.network.weights()), base.folder, out, PRODUCER)
    if (wrong := _difference(trainee, out / MODEL, _probes(trainee, training), task.threads)) is not None:
        raise Internal(f"the exported model does not compute what was trained: {wrong}")
    evaluation = None
    if tasks:
        candidate = _evaluate(trainee, trainee.scores, tasks)
        trainee.network.take(base.made.weights)
        evaluation = Evaluation(
            examples=len(tasks), base=_evaluate(trainee, trainee.base_scores, tasks), candidate=candidate
        )
    return TrainingEnded(
        files=tuple(files),
        steps=outcome.steps,
        stopped_early=outcome.stopped_early,
        train_loss=outcome.train_loss,
        validation_loss=outcome.validation_loss,
        evaluation=evaluation,
    )


def _evaluate(
    trainee: Ranker | Embedder, scores: Callable[[RankingTask], list[float]], tasks: Sequence[RankingTask]
) -> dict[str, float]:
    trainee.network.model.eval()
    with torch.inference_mode():
        rankings = [encoder_metrics.ranking(scores(task), task.relevant) for task in tasks]
    return encoder_metrics.summary(rankings)


def _questions(task: TrainingTask) -> tuple[list[Question], list[Question]]:
    """Those to learn from, and those that are held out; each with something to tell its chunks from."""
    asked = task.hyperparameters
    training = read_questions(Path(task.dataset_path))
    if task.validation_path is not None:
        validation = read_questions(Path(task.validation_path))
        check_apart(training, validation)
    else:
        training, validation = held_out(training, asked.validation_fraction, asked.seed)
    if not any(question.positives for question in training):
        raise InvalidParameter("no question to learn from has a positive chunk; add rows with positive true")
    if task.kind is TrainingKind.RERANKING:
        training = with_negatives(training, asked.seed)
        validation = with_negatives(validation, asked.seed) if len(validation) > 1 else validation
    return training, validation


def _check_hyperparameters(asked: Hyperparameters) -> None:
    """Raise InvalidParameter for wishes that only adapters have: the whole encoder is trained here, in float32."""
    plain = Hyperparameters()
    wrong = [name for name in _OF_ADAPTERS if getattr(asked, name) != getattr(plain, name)]
    if wrong:
        raise InvalidParameter(f"{', '.join(wrong)}: only adapters of generation have them; leave them out")
    if asked.precision is Precision.BFLOAT16:
        raise InvalidParameter("precision: encoders are trained in float32, only text models in bfloat16; leave it out")


def _check_reading(trainee: Ranker | Embedder, training: Sequence[Question], threads: int) -> None:
    """Raise WrongWeights where the graph is not what its names promise."""
    model = trainee.network.base.folder / MODEL
    if (wrong := _difference(trainee, model, _probes(trainee, training), threads)) is not None:
        raise WrongWeights(f"{MODEL} computes something else than an encoder with its tensors does: {wrong}")


def _probes(trainee: Ranker | Embedder, training: Sequence[Question]) -> list[Text]:
    """A few texts of the dataset."""
    some = [question for question in training if question.positives][:_PROBES]
    if isinstance(trainee, Ranker):
        return [(question.text, question.positives[0]) for question in some]
    return [question.positives[0] for question in some]


def _difference(trainee: Ranker | Embedder, model: Path, probes: Sequence[Text], threads: int) -> str | None:
    """How ONNX Runtime and PyTorch differ on some texts, in words; None: they do not.

    Scores are compared where the graph gives some, else the texts' vectors.
    """
    network = trainee.network
    texts = [network.texts[text] for text in probes]
    session = Session(model, device=CPU, threads=max(threads, 1))
    try:
        outputs = unpad(session.run(pad(texts, network.base.tokenizer.pad_id)), texts)
    finally:
        session.close()
    by_score = session.output_name == "logits"
    network.model.eval()
    with torch.inference_mode():
        ours = (network.scores(texts) if by_score else network.vectors(texts)).cpu().numpy()
    network.model.train()
    return _scores_differ(outputs, ours) if by_score else _vectors_differ(outputs, ours, network.base.pooling)


def _scores_differ(outputs: Sequence[Floats], ours: Floats) -> str | None:
    apart = max(abs(relevance(output) - float(score)) for output, score in zip(outputs, ours, strict=True))
    return None if apart <= _SCORE_TOLERANCE else f"scores are {apart:.3g} apart"


def _vectors_differ(outputs: Sequence[Floats], ours: Floats, pooling: str) -> str | None:
    theirs = [unit(POOLINGS[pooling](output) if output.ndim == 2 else output) for output in outputs]
    cosine = min(float(vector @ other) for vector, other in zip(theirs, ours, strict=True))
    return None if cosine >= _COSINE else f"a vector has a cosine of {cosine:.5f}"


def _fingerprint(task: TrainingTask) -> str:
    """What a checkpoint is good for."""
    parts = [msgspec.json.encode((task.kind, task.hyperparameters))]
    files = (
        str(Path(task.base_path) / MODEL),
        task.dataset_path,
        *([task.validation_path] * bool(task.validation_path)),
    )
    for file in files:
        with open(str(file), "rb") as opened:
            parts.append(hashlib.file_digest(opened, "sha256").digest())
    return hashlib.sha256(b"".join(parts)).hexdigest()
