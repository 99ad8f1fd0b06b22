"""BERT in PyTorch against ONNX Runtime, and its small word table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from appliance.encoders.folder import Encoder, read_encoder
from appliance.encoders.weights import WORDS
from appliance.engines.base import CPU
from appliance.engines.onnx.session import Session
from appliance.engines.onnx.tasks import POOLINGS, EncodedText, pad, relevance, unit, unpad
from appliance.engines.onnx.text import Tokenizer
from appliance.training.encoder_model import EncoderModel, TokenRectangle, Vocabulary
from tests.support.export_encoders import FOLDER as EXPORTED
from tests.support.starter_embed import golden, starter_embed_folder
from tests.support.tiny_encoders import random_encoder

WORDS_OF_TEXTS = ["red cat", "blue", "one two three green dog red"]
PAIRS = [("red cat", "dog"), ("blue", "one two three"), ("green", "green cat dog")]
HERE = torch.device("cpu")


def opened(folder: Path, texts: list[str] | list[tuple[str, str]]) -> tuple[Encoder, list[EncodedText]]:
    tokenizer = Tokenizer(folder / "tokenizer.json", max_tokens=512, vocabulary_size=None)
    return read_encoder(folder), tokenizer.encode(texts, "text {index}")


def model_of(made: Encoder, texts: list[EncodedText]) -> tuple[EncoderModel, TokenRectangle]:
    vocabulary = Vocabulary(np.append(np.concatenate([text.ids for text in texts]), 0), len(made.weights[WORDS]))
    model = EncoderModel(vocabulary.shrunk(made.weights), made.shape, dropout=0.0).eval()
    return model, TokenRectangle(texts, vocabulary, 0, HERE)


def served(folder: Path, texts: list[EncodedText]) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    session = Session(folder / "model.onnx", device=CPU, threads=1)
    try:
        return unpad(session.run(pad(texts, 0)), texts)
    finally:
        session.close()


@pytest.mark.parametrize("pooling", list(POOLINGS))
def test_vectors_are_those_of_onnx_runtime(pooling: str) -> None:
    """Another writer's graph, padded, with every pooling that the engine has."""
    made, texts = opened(EXPORTED / "bert", WORDS_OF_TEXTS)
    model, rectangle = model_of(made, texts)

    with torch.inference_mode():
        ours = model.vectors(rectangle, pooling).numpy()

    theirs = [unit(POOLINGS[pooling](output)) for output in served(EXPORTED / "bert", texts)]
    assert min(float(a @ b) for a, b in zip(ours, theirs, strict=True)) > 0.99999


@pytest.mark.parametrize("name", ["bert-cross", "roberta-cross", "distilbert-cross"])
def test_scores_are_those_of_onnx_runtime(name: str) -> None:
    """Every family's head, with one label and with two."""
    made, texts = opened(EXPORTED / name, PAIRS)
    model, rectangle = model_of(made, texts)

    with torch.inference_mode():
        ours = model.scores(rectangle).tolist()

    assert ours == pytest.approx([relevance(output) for output in served(EXPORTED / name, texts)], abs=1e-4)


def test_the_starter_is_what_its_reference_says() -> None:
    """Vectors of real sentences against sentence-transformers' own, which ONNX Runtime is held against too."""
    words, reference = golden()
    made, texts = opened(starter_embed_folder(), list(words)[:24])
    model, rectangle = model_of(made, texts)

    with torch.inference_mode():
        ours = model.vectors(rectangle, "mean").numpy()

    assert float((ours * reference[:24]).sum(axis=1).min()) > 0.9999


def test_only_words_in_use_are_carried() -> None:
    """What is trained holds their rows alone; what is given back has every row, the others untouched."""
    made = random_encoder()
    vocabulary = Vocabulary(np.array([5, 2, 5]), len(made.weights[WORDS]))
    model = EncoderModel(vocabulary.shrunk(made.weights), made.shape, dropout=0.0)
    with torch.no_grad():
        model.embeddings["word_embeddings"].weight.fill_(1.0)

    whole = vocabulary.restored(model.give(), made.weights)[WORDS]

    assert model.embeddings["word_embeddings"].weight.shape[0] == 2
    assert (whole[[2, 5]] == 1.0).all()
    untouched = [row for row in range(len(whole)) if row not in (2, 5)]
    assert np.array_equal(whole[untouched], made.weights[WORDS][untouched])
