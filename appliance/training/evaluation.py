"""Base and candidate side by side on examples that nobody trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch

from appliance.domain.training import Evaluation
from appliance.engines.llama.examples import Example, Ints
from appliance.training.prompts import Examples

ASKED_EXAMPLES = 32
"""Answers that are written out and compared; the loss is over all."""
ANSWER_TOKENS = 64
"""A longer answer is not asked for."""


class Candidate(Protocol):
    """A base with an adapter over it."""

    device: torch.device
    model: Any

    def logits(self, tokens: torch.Tensor, positions: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Scores at places."""


def evaluate(adapted: Candidate, mean_loss: Callable[[], float], held: Examples) -> Evaluation:
    """``loss``, ``perplexity``, and ``exact_match`` where there are answers short enough to be written out."""
    with adapted.model.disable_adapter():
        base = _metrics(adapted, mean_loss, held)
    return Evaluation(examples=len(held.examples), base=base, candidate=_metrics(adapted, mean_loss, held))


def _metrics(adapted: Candidate, mean_loss: Callable[[], float], held: Examples) -> dict[str, float]:
    loss = mean_loss()
    adapted.model.eval()
    with torch.no_grad():
        found = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        asked = list(_questions(held))[:ASKED_EXAMPLES]
        if asked:
            right = sum(_answers_so(adapted, prompt, answer, held.ends) for prompt, answer in asked)
            found["exact_match"] = right / len(asked)
    return found


def _questions(held: Examples) -> Iterator[tuple[Ints, Ints]]:
    """What stands before each last answer, and the answer, where it is short enough."""
    for example in held.examples:
        learnt = example.learnt.nonzero()[0]
        if not len(learnt):
            continue
        stop = int(learnt[-1]) + 1
        start = _beginning(example, stop)
        if start and stop - start <= ANSWER_TOKENS:
            yield example.tokens[:start], example.tokens[start:stop]


def _beginning(example: Example, stop: int) -> int:
    """Where the run of learnt tokens that ends at ``stop`` begins."""
    others = np.flatnonzero(~example.learnt[:stop])
    return int(others[-1]) + 1 if len(others) else 0


def _answers_so(adapted: Candidate, prompt: Ints, answer: Ints, ends: frozenset[int]) -> bool:
    """Whether the likeliest token is the answer's, one after the other, up to the mark that ends it.

    One pass tells: as long as all before it agree, what is likeliest at a place is what would have been written there.
    """
    tokens = torch.from_numpy(np.concatenate([prompt, answer]).astype(np.int64))[None].to(adapted.device)
    positions = torch.arange(tokens.shape[1], device=adapted.device)[None]
    places = torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1, device=adapted.device)
    likeliest = adapted.logits(tokens, positions, places)[0].argmax(dim=-1).cpu().numpy()
    for wanted, written in zip(answer.tolist(), likeliest.tolist(), strict=True):
        if wanted in ends or written in ends:
            return wanted in ends and written in ends
        if wanted != written:
            return False
    return True
