"""A LoRA over a GGUF: what is learnt, what rows are to each other, and that llama.cpp computes what peft does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import msgspec
import numpy as np
import pytest
import torch
from msgspec import structs

from appliance.domain.errors import InvalidParameter
from appliance.domain.trainable import TARGETS, TRAINABLE_ARCHITECTURES
from appliance.domain.training import Hyperparameters, Precision, TrainingKind
from appliance.engines.llama.examples import Example
from appliance.lifecycle import training_needs
from appliance.store.inspection import inspect
from appliance.store.lora import Adapter
from appliance.store.peft_folder import convert
from appliance.training import generation
from appliance.training.base import linear_names, open_base
from appliance.training.evaluation import evaluate
from appliance.training.generation import Adapted, Trainee, gguf_of
from appliance.training.machine import prepare
from appliance.training.prompts import Examples
from appliance.training.rows import Row, alone, held_out, packed
from tests.support.tiny_trainable import cosine, llama_logits, write_trainable
from tests.training.tasks import write_task

TOKENS = [0, *np.random.default_rng(5).integers(5, 260, 30).tolist()]


def adapted(folder: Path, base: Path, **hyperparameters: Any) -> Adapted:
    """With random factors instead of the zeros that it begins with."""
    task = write_task(folder, base, [{"input": "a", "output": "b"}], threads=1, **hyperparameters)
    found = Adapted(task, gguf_of(str(base)), prepare("cpu", 1))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in found.parameters.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    found.model.eval()
    return found


def scores(candidate: Adapted, tokens: list[int]) -> np.ndarray:
    ids = torch.tensor([tokens])
    with torch.no_grad():
        return candidate.logits(ids, torch.arange(len(tokens))[None], torch.arange(len(tokens)))[0].float().numpy()


class Trained(NamedTuple):
    """An adapter over tiny weights of an architecture."""

    architecture: str
    base: Path
    candidate: Adapted


@pytest.fixture(scope="module", params=TRAINABLE_ARCHITECTURES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Over F16 weights and every linear layer that can have one."""
    folder = tmp_path_factory.mktemp("trained")
    base = write_trainable(folder / "base.gguf", request.param, half=True)
    return Trained(request.param, base, adapted(folder / "task", base, rank=4, alpha=8.0))


def test_llama_cpp_computes_with_the_adapter_what_peft_does(trained: Trained, tmp_path: Path) -> None:
    """Over F16 weights and every linear layer: cosine of the scores at least 0.999, and far from the base's."""
    base = trained.base
    trained.candidate.export(tmp_path / "adapter.gguf", gguf_of(str(base)))

    ours, theirs = scores(trained.candidate, TOKENS), llama_logits(base, TOKENS, tmp_path / "adapter.gguf")

    assert cosine(ours, theirs) >= 0.999
    assert cosine(ours, llama_logits(base, TOKENS)) < 0.97
    assert Adapter(tmp_path / "adapter.gguf").base_digest == gguf_of(str(base)).digest()


@pytest.mark.parametrize("architecture", ["falcon", "gemma4"])
def test_an_adapter_over_quantized_weights_computes_as_in_llama_cpp(architecture: str, tmp_path: Path) -> None:
    """Over Q8_0, whose products llama.cpp rounds: nearer to the adapter's scores than to the base's by far."""
    base = write_trainable(tmp_path / "base.gguf", architecture, kind=gguf.GGMLQuantizationType.Q8_0)
    candidate = adapted(tmp_path / "task", base, rank=4, alpha=8.0)
    candidate.export(tmp_path / "adapter.gguf", gguf_of(str(base)))

    ours = scores(candidate, TOKENS)

    assert cosine(ours, llama_logits(base, TOKENS, tmp_path / "adapter.gguf")) > 0.998
    assert cosine(ours, llama_logits(base, TOKENS)) < 0.97


def test_16_bits_are_refused_where_they_lose_positions(tmp_path: Path) -> None:
    """And not taken without being asked for."""
    base = write_trainable(tmp_path / "base.gguf", "bloom")

    assert not adapted(tmp_path / "task", base, rank=4).is_half
    with pytest.raises(
        InvalidParameter, match=r"precision: .*\(bloom\) loses its positions in bfloat16; leave it at auto"
    ):
        adapted(tmp_path / "other", base, rank=4, precision=Precision.BFLOAT16)


def test_what_peft_saves_is_imported_as_what_is_exported(trained: Trained, tmp_path: Path) -> None:
    """A folder by peft itself: every matrix of the base gets the same added to it, fused and transposed ones too."""
    weights = gguf_of(str(trained.base))
    trained.candidate.export(tmp_path / "ours.gguf", weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained.candidate.model.save_pretrained(tmp_path / "theirs", save_embedding_layers=False)

    convert(tmp_path / "theirs", weights, tmp_path / "theirs.gguf")

    ours, theirs = Adapter(tmp_path / "ours.gguf"), Adapter(tmp_path / "theirs.gguf")
    assert ours.targets == theirs.targets
    for tensor in ours.targets:
        np.testing.assert_allclose(ours.delta(tensor), theirs.delta(tensor), rtol=1e-4, atol=1e-6)


def test_every_factor_learns_and_examples_do_not_see_each_other(trained: Trained, tmp_path: Path) -> None:
    """The loss of all rows is the sum of the losses of their examples alone, and has a gradient for every factor.

    Where a network cannot tell examples apart, each has a row of its own, though packing was asked for.
    """
    candidate = trained.candidate
    examples = Examples((example(1, 20, 5), example(2, 13, 4), example(3, 9, 2)), frozenset())
    task = write_task(tmp_path, tmp_path, [], packing=True, sequence_length=40)

    (only,) = Trainee(task, candidate, examples, Examples((), frozenset())).passes(0)
    together = only.loss()
    together.backward()

    with torch.no_grad():
        apart = sum(float(candidate.loss([row])) for row in alone(examples.examples))
    assert float(together.detach()) == pytest.approx(apart, rel=1e-4)
    assert all(factor.grad is not None and factor.grad.abs().sum() > 0 for factor in candidate.parameters.values())
    candidate.model.eval()


@pytest.mark.parametrize(
    ("architecture", "layers"),
    [
        ("gpt2", "c_attn, c_fc, c_proj"),
        ("bloom", "dense, dense_4h_to_h, dense_h_to_4h, query_key_value"),
        ("qwen2moe", "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"),
        ("qwen3moe", "k_proj, o_proj, q_proj, v_proj"),
        ("mamba", "in_proj, x_proj"),
    ],
)
def test_layers_that_an_adapter_may_change(architecture: str, layers: str, tmp_path: Path) -> None:
    """Of mixtures attention and what all tokens pass, no experts; of a state only what the network asks a layer for."""
    weights = gguf_of(str(write_trainable(tmp_path / "base.gguf", architecture)))

    assert ", ".join(linear_names(open_base(weights, torch.float32, torch.device("cpu")), weights)) == layers


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    """With a window of 8 tokens."""
    folder = tmp_path_factory.mktemp("gemma3")
    return adapted(folder / "task", write_trainable(folder / "base.gguf", "gemma3"), rank=4)


def example(seed: int, length: int, learnt_from: int) -> Example:
    tokens = np.random.default_rng(seed).integers(5, 260, length).astype(np.int32)
    return Example(tokens, np.arange(length) >= learnt_from)


def test_examples_of_a_row_are_blind_to_each_other(gemma: Adapted) -> None:
    """The loss of a packed row, beside a padded one, is the sum of the losses of its examples alone."""
    examples = [example(1, 20, 5), example(2, 13, 4), example(3, 9, 2)]
    with torch.no_grad():
        apart = sum(float(gemma.loss([row])) for row in alone(examples))
        together = float(gemma.loss([Row(tuple(examples[:2])), Row((examples[2],))]))

    assert together == pytest.approx(apart, rel=1e-4)


def test_only_answers_are_learnt(gemma: Adapted) -> None:
    """Another question before the same answer changes the loss; tokens behind the answer do not."""
    one = example(1, 20, 12)
    tail = Example(np.append(one.tokens, [7, 8, 9]).astype(np.int32), np.append(one.learnt, [False] * 3))
    with torch.no_grad():
        assert float(gemma.loss([Row((tail,))])) == pytest.approx(float(gemma.loss([Row((one,))])), rel=1e-5)


def test_packing_fills_rows(tmp_path: Path) -> None:
    """No row is over its length, every example is in one, and short ones share."""
    examples = [example(seed, length, 1) for seed, length in enumerate([30, 5, 9, 17, 4, 12, 3])]

    rows = packed(examples, 32)

    assert all(row.tokens <= 32 for row in rows)
    assert sorted(len(one.tokens) for row in rows for one in row.examples) == [3, 4, 5, 9, 12, 17, 30]
    assert len(rows) == 3


def test_the_table_names_the_layers_that_are_trained(trained: Trained) -> None:
    """What may be named in an order is what the network has, of every architecture."""
    found = {name.rsplit(".", 1)[-1] for name in trained.candidate.factors()}
    assert found == set(TARGETS[trained.architecture])


def test_a_token_takes_no_more_than_was_booked_for_it(trained: Trained) -> None:
    """The card gives the same sizes as the file; what it does not tell is guessed above, and never below it."""
    found = generation.token_sizes(gguf_of(str(trained.base)))
    booked = training_needs.token_sizes(TrainingKind.GENERATION, inspect({"base.gguf": trained.base}))
    assert structs.replace(booked, inner_width=found.inner_width) == found
    assert booked.inner_width >= found.inner_width
    assert booked.token_bytes(64) >= found.token_bytes(64)


@pytest.mark.parametrize(
    ("count", "fraction", "held"), [(50, 0.1, 5), (50, 0.0, 0), (3, 0.1, 1), (1, 0.5, 0), (2, 0.9, 1)]
)
def test_examples_are_held_out(count: int, fraction: float, held: int) -> None:
    """The share that was asked for, at least one where any is; one is left to train on; the same ones every time."""
    assert len(held_out(count, fraction, 1)) == held
    assert held_out(count, fraction, 1) == held_out(count, fraction, 1)


def test_gradients_accumulate_to_those_of_a_whole_step(gemma: Adapted, tmp_path: Path) -> None:
    """A step in passes of one row has the gradient of the step in one pass."""
    examples = Examples(tuple(example(seed, 8 + seed, 3) for seed in range(6)), frozenset())

    def gradient(micro: int) -> torch.Tensor:
        task = write_task(tmp_path, tmp_path, [], batch_size=6, micro_batch_size=micro, packing=False)
        trainee = Trainee(task, gemma, examples, Examples((), frozenset()))
        passes = trainee.passes(0)
        assert len(passes) == 6 // micro
        for each in passes:
            (each.loss() / sum(one.weight for one in passes)).backward()
        found = torch.cat([value.grad.flatten() for value in gemma.parameters.values() if value.grad is not None])
        gemma.model.zero_grad()
        return found

    torch.testing.assert_close(gradient(1), gradient(6), rtol=1e-3, atol=1e-6)


def test_exact_match_is_what_greedy_writing_gives(tmp_path: Path) -> None:
    """Base and candidate are asked for the answer token by token; one that writes it scores 1, one that does not 0."""
    candidate = adapted(tmp_path / "task", write_trainable(tmp_path / "base.gguf", "qwen2"), rank=4)
    prompt = [0, 9, 8, 7]
    written: list[int] = []
    for _ in range(6):
        written.append(int(scores(candidate, prompt + written)[-1].argmax()))
    tokens = np.array(prompt + written, dtype=np.int32)
    held = Examples((Example(tokens, np.arange(len(tokens)) >= 4),), frozenset({2}))

    trainee = Trainee(write_task(tmp_path, tmp_path, []), candidate, held, held)

    found = evaluate(candidate, trainee.mean_loss, held)

    assert found.candidate["exact_match"] == 1.0
    assert found.base["exact_match"] == 0.0
    assert found.candidate["perplexity"] == pytest.approx(np.exp(found.candidate["loss"]))


def test_too_long_an_example_is_refused(tmp_path: Path) -> None:
    """Nothing is cut: the message has the numbers and what to do."""
    base = write_trainable(tmp_path / "base.gguf", "qwen2")
    task = write_task(tmp_path, base, [{"input": "a b c " * 20, "output": "d"}, {"input": "a", "output": "b"}])
    short = msgspec.structs.replace(task, hyperparameters=Hyperparameters(sequence_length=32))

    with pytest.raises(InvalidParameter, match=r"1 of 2 examples are longer than 32 tokens, sequence_length; .* raise"):
        generation._examples(short, gguf_of(str(base)))


def test_an_unknown_target_module_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """The names are those of transformers."""
    base = write_trainable(tmp_path / "base.gguf", "phi3")

    with pytest.raises(InvalidParameter, match=r"no 'q_proj'; it has down_proj, gate_up_proj, o_proj, qkv_proj"):
        adapted(tmp_path / "task", base, target_modules=("q_proj",))
