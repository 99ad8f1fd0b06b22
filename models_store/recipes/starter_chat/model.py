"""The network: a plain Llama decoder in PyTorch, small enough to train on a CPU.

Used by training only. It knows nothing of GGUF; `export.py` maps its parameter names to llama.cpp's.
Everything follows the `llama` architecture exactly (RMSNorm, rotate-half RoPE, SwiGLU, no biases, tied
embeddings), because what llama.cpp cannot express cannot be shipped.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Sizes of the network. Widths are multiples of 32: Q8_0 stores blocks of 32 numbers."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 6
    heads: int = 8
    feed_forward: int = 640
    context_tokens: int = 2048
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Numbers per attention head."""
        return self.width // self.heads

    def as_dict(self) -> dict[str, float]:
        """For the checkpoint."""
        return asdict(self)


class Norm(nn.Module):  # type: ignore[misc]
    """RMSNorm over the last axis."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return functional.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.epsilon)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + half) of x (batch, heads, tokens, head_width) by its position's angle."""
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


class Block(nn.Module):  # type: ignore[misc]
    """Attention and a gated feed-forward layer, each on a normalised copy of the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.attn_norm = Norm(width, shape.norm_epsilon)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, width, bias=False)
        self.attn_v = nn.Linear(width, width, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = Norm(width, shape.norm_epsilon)
        self.ffn_gate = nn.Linear(width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, width, bias=False)

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Residual stream (batch, tokens, width) to the one after attention."""
        batch, tokens, width = x.shape
        y = self.attn_norm(x)
        split = (batch, tokens, self.shape.heads, self.shape.head_width)
        q = rotate(self.attn_q(y).view(split).transpose(1, 2), cos, sin)
        k = rotate(self.attn_k(y).view(split).transpose(1, 2), cos, sin)
        v = self.attn_v(y).view(split).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.attn_output(mixed.transpose(1, 2).reshape(batch, tokens, width))

    def feed(self, x: Tensor) -> Tensor:
        """Residual stream (..., width) to the one after the feed-forward layer."""
        y = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(y)) * self.ffn_up(y))


class Llama(nn.Module):  # type: ignore[misc]
    """Token ids (batch, tokens) to hidden states (batch, tokens, width); `logits` turns chosen states into scores."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape.width, shape.norm_epsilon)
        half = shape.head_width // 2
        rates = shape.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
        angles = torch.outer(torch.arange(shape.context_tokens, dtype=torch.float32), rates)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.apply(self._start)
        for block in self.blk:
            nn.init.zeros_(block.attn_output.weight)
            nn.init.zeros_(block.ffn_down.weight)

    @staticmethod
    def _start(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.05)

    def forward(self, ids: Tensor, chosen: Tensor) -> Tensor:
        """Ids (batch, tokens) to the normalised hidden states (n, width) of the n places where ``chosen`` is true.

        After the last attention the other places are dropped: nothing looks at them any more.
        """
        x = self.token_embd(ids)
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.bfloat16)
        cos = self.cos[: ids.shape[1]].to(x.dtype)
        sin = self.sin[: ids.shape[1]].to(x.dtype)
        for block in self.blk[:-1]:
            x = block.feed(block.attend(x, cos, sin))
        last = self.blk[-1]
        return self.output_norm(last.feed(last.attend(x, cos, sin)[chosen]))

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (n, width) to scores (n, vocabulary), through the tied embedding."""
        return functional.linear(hidden, self.token_embd.weight)
