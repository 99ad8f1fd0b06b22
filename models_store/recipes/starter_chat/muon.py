"""Muon: momentum whose update is made orthogonal by a Newton-Schulz iteration (Jordan et al., 2024, "Muon").

The same rule and constants as `torch.optim.Muon`, which always iterates in bfloat16: on a processor that only emulates
that type, the optimizer would take longer than the network. Here the caller says in which type, and matrices of
one shape go through the iteration together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5


def orthogonal(stacked: Tensor) -> Tensor:
    """The nearest matrices with singular values around 1, for a stack of shape (n, rows, columns)."""
    a, b, c = COEFFICIENTS
    tall = stacked.shape[1] > stacked.shape[2]
    x = stacked.mT if tall else stacked
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """For matrices only; `lr` is the length of a step in terms of singular values."""

    def __init__(
        self, matrices: Iterable[Tensor], lr: float, momentum: float, weight_decay: float, dtype: torch.dtype
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    def step(self, closure: Any = None) -> None:
        """One update of every matrix that has a gradient."""
        with torch.no_grad():
            self._step()

    def _step(self) -> None:
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape].append(matrix)
            for shape, matrices in alike.items():
                directions = torch.stack([self._direction(matrix, group["momentum"]) for matrix in matrices])
                updates = orthogonal(directions.to(self.dtype)).to(directions.dtype)
                rate = group["lr"] * math.sqrt(max(1.0, shape[0] / shape[1]))
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)

    def _direction(self, matrix: Tensor, momentum: float) -> Tensor:
        """The gradient, looked at from one momentum step ahead (Nesterov)."""
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(state["momentum_buffer"], momentum)
