"""The tokenizer: byte-level BPE, made so that a copied value is the same tokens wherever it stands.

In `in Paris` and in `"Paris"` a common tokenizer sees different tokens, because the space melts into the word. A small
network that must copy values then has to learn every such pair by heart. Here spaces stay apart from words,
except before some two hundred function words that are never values, and digits stand alone.

The splitting rule is llama.cpp's `smollm`: each digit by itself, then GPT-2's pattern. Spaces are kept apart by the
merges, not by the rule, so llama.cpp needs nothing special.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from . import conversations, words

PRE = "smollm"
"""llama.cpp's name for the splitting rule."""

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>")
VOCABULARY = 2048
SPACED_WORDS = 220
"""Function words that get a token with their leading space."""

_SPACE = "\u0120"


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )


def _word_merges(corpus: list[str], size: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Plain BPE over text whose spaces stand alone: the pieces in order, and the merges that make them."""
    tokenizer = Tokenizer(models.BPE())
    alone = pre_tokenizers.Split(Regex(" "), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([alone, _splitter()])
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return pieces, [tuple(merge) for merge in model["merges"]]


def _spaced(corpus: Iterable[str], pieces: list[str]) -> list[str]:
    """The commonest single-piece words that are never values."""
    lists = (
        words.FIRST_NAMES,
        words.LAST_NAMES,
        words.CITIES,
        words.COUNTRIES,
        words.COLOURS,
        words.NOUNS,
        words.ADJECTIVES,
        words.MONTHS,
    )
    values = {word for each in lists for word in each}
    known = {
        piece for piece in pieces if piece.isascii() and (piece.isalpha() or len(piece) == 1) and not piece.isdigit()
    }
    counts: Counter[str] = Counter()
    for text in corpus:
        for word in text.split(" ")[1:]:
            counts[word.rstrip(".,?:!;")] += 1
    for mark in ('"', "|", "=", "(", "+", "-", "*"):
        counts[mark] = max(counts[mark], 1) * 1000
    eligible = [word for word, _ in counts.most_common() if word in known and word not in values]
    return eligible[:SPACED_WORDS]


def build(samples: int = 40_000, seed: int = 7) -> Tokenizer:
    """Learn a tokenizer from our own generated text."""
    each = samples // 3
    corpus = [
        conversations.text(made)
        for index, progress in enumerate((0.0, 0.5, 1.0))
        for made in islice(conversations.stream(seed + index, progress=progress), each)
    ]
    random.Random(seed).shuffle(corpus)
    for mark in (*CONTROL, *MARKS):
        corpus = [text.replace(mark, "\n") for text in corpus]
    pieces, merges = _word_merges(corpus, VOCABULARY - len(CONTROL) - len(MARKS) - SPACED_WORDS)
    spaced = _spaced(corpus, pieces)
    merges += [(_SPACE, word) for word in spaced]
    pieces += [_SPACE + word for word in spaced]
    return assemble([*CONTROL, *MARKS, *pieces], merges)


def assemble(pieces: list[str], merges: list[tuple[str, str]]) -> Tokenizer:
    """A tokenizer of these pieces, in the order of their ids, and these merges, first come first."""
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = _splitter()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in CONTROL])
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in MARKS])
    return tokenizer


def load(path: Path) -> Tokenizer:
    """Read a tokenizer that `build` made."""
    return Tokenizer.from_file(str(path))
