"""Tokenizing with the folder's own tokenizer.json, without a cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.domain.errors import BadWeights, InvalidParameter, PromptTooLong, WrongWeights
from appliance.engines.onnx.text import Tokenizer
from tests.support.onnx_folders import VOCABULARY, write_tokenizer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "tokenizer.json")


def ids_of(*tokens: str) -> list[int]:
    return [VOCABULARY.index(token) for token in tokens]


def test_cut_and_padding_of_the_file_are_off(file: Path) -> None:
    """A file that asks for four tokens and padding gives all of the text's tokens and no more."""
    tokenizer = Tokenizer(file, max_tokens=32, vocabulary_size=None)

    (text,) = tokenizer.encode(["red green blue one two"], "text {index}")

    assert text.ids.tolist() == ids_of("[CLS]", "red", "green", "blue", "one", "two", "[SEP]")
    assert text.special.tolist() == [True, False, False, False, False, False, True]


def test_pairs_carry_their_types(file: Path) -> None:
    """The second text of a pair is marked as the second."""
    (text,) = Tokenizer(file, max_tokens=32, vocabulary_size=None).encode([("cat", "dog red")], "{index}")

    assert text.ids.tolist() == ids_of("[CLS]", "cat", "[SEP]", "dog", "red", "[SEP]")
    assert text.type_ids.tolist() == [0, 0, 0, 1, 1, 1]


def test_here_gives_the_same(file: Path) -> None:
    """Few texts that are encoded in the caller's thread get the tokens, types and limits that a list gets."""
    tokenizer = Tokenizer(file, max_tokens=6, vocabulary_size=None)
    texts = ["red", "cat dog", ""]
    pairs = [("cat", "dog red"), ("", "")]

    for some in (texts, pairs):
        for here, there in zip(tokenizer.encode_here(some, "{index}"), tokenizer.encode(some, "{index}"), strict=True):
            assert here.ids.tolist() == there.ids.tolist()
            assert here.type_ids.tolist() == there.type_ids.tolist()
            assert here.special.tolist() == there.special.tolist()
    with pytest.raises(PromptTooLong, match="text 1 has 7 tokens"):
        tokenizer.encode_here(["red", "red " * 5], "text {index}")


def test_too_long_names_the_text_and_both_numbers(file: Path) -> None:
    """The first text above the limit is named with its tokens and the limit."""
    tokenizer = Tokenizer(file, max_tokens=5, vocabulary_size=None)

    with pytest.raises(PromptTooLong, match=r"text 1 has 6 tokens, this deployment takes 5 per text") as raised:
        tokenizer.encode(["red green blue", "red green blue one", "red " * 50], "text {index}")

    assert (raised.value.prompt_tokens, raised.value.context_length_tokens) == (6, 5)


def test_the_limit_itself_fits(file: Path) -> None:
    """As many tokens as the limit, special ones included, are taken."""
    (text,) = Tokenizer(file, max_tokens=5, vocabulary_size=None).encode(["red green blue"], "{index}")

    assert len(text) == 5


def test_given_ids_are_taken_as_they_are(file: Path) -> None:
    """Nothing is added; ids of no token, none at all and too many are refused by the text's name."""
    tokenizer = Tokenizer(file, max_tokens=5, vocabulary_size=None)
    ids = tokenizer.tokens("red green", add_special=True).ids
    (given,), (read,) = tokenizer.given([ids], "text {index}"), tokenizer.encode(["red green"], "text {index}")
    assert given.ids.tolist() == read.ids.tolist() == list(ids)
    for wrong, words in (((12,), "token 12"), ((), "text 0 has no tokens")):
        with pytest.raises(InvalidParameter, match=words):
            tokenizer.given([wrong], "text {index}")
    with pytest.raises(PromptTooLong, match="text 0 has 6 tokens"):
        tokenizer.given([(5,) * 6], "text {index}")


def test_tokens_and_back(file: Path) -> None:
    """With the special tokens or without; the text is theirs."""
    tokenizer = Tokenizer(file, max_tokens=32, vocabulary_size=None)
    whole, bare = (tokenizer.tokens("red green", add_special=special) for special in (True, False))
    assert whole.ids[1:-1] == bare.ids
    assert bare.pieces == (b"red", b"green")
    assert tokenizer.text(bare.ids) == "red green"


def test_tokenizer_of_another_model_is_refused(file: Path) -> None:
    """Ids that the model has no vectors for would stop the engine at some later text."""
    with pytest.raises(WrongWeights, match="12 tokens, the model's vocabulary 11"):
        Tokenizer(file, max_tokens=32, vocabulary_size=11)


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    """A file that is no tokenizer is named."""
    (tmp_path / "tokenizer.json").write_text("{}")

    with pytest.raises(BadWeights, match=r"tokenizer\.json cannot be read"):
        Tokenizer(tmp_path / "tokenizer.json", max_tokens=32, vocabulary_size=None)


def test_padding_id_is_found(file: Path) -> None:
    """It is the file's own, which RoBERTa's graphs rely on."""
    assert Tokenizer(file, max_tokens=32, vocabulary_size=None).pad_id == VOCABULARY.index("[PAD]")
