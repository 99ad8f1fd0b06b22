"""BERT in PyTorch, under the names of its checkpoint: token ids in, a vector per token or a score out.

Made by ``encoder`` from tensors that ``encoders.folder`` read. Its word table holds only the words that the training
meets: a row that no text asks for gets no gradient and stays what it was, and there is no need to carry it along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from appliance.encoders.weights import ATTENTION_PARTS, POSITIONS, TOKEN_TYPES, WORDS, Shape, Weights, has_head
from appliance.engines.onnx.tasks import EncodedText, pad

_HEAD_ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {"tanh": torch.tanh, "relu": torch.relu}


class Vocabulary:
    """The word ids in use, and where each stands in the model's table."""

    def __init__(self, ids: npt.NDArray[np.int64], size: int) -> None:
        """``ids``: all that will ever be asked for, in any order, repeated or not."""
        self.used = np.unique(ids)
        self._places = np.zeros(size, np.int64)
        self._places[self.used] = np.arange(len(self.used))

    def places(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows of the small table."""
        found: npt.NDArray[np.int64] = self._places[ids]
        return found

    def shrunk(self, weights: Weights) -> Weights:
        """With the rows in use only."""
        return {**weights, WORDS: weights[WORDS][self.used]}

    def restored(self, small: Weights, base: Weights) -> Weights:
        """With all rows again: those in use from ``small``, the others from ``base``."""
        words = base[WORDS].copy()
        words[self.used] = small[WORDS]
        return {**small, WORDS: words}


class TokenRectangle:
    """Texts of one pass, padded, as tensors."""

    def __init__(self, texts: Sequence[EncodedText], vocabulary: Vocabulary, pad_id: int, device: torch.device) -> None:
        batch = pad(texts, pad_id)
        self.ids = torch.from_numpy(vocabulary.places(batch.ids)).to(device)
        self.types = torch.from_numpy(batch.type_ids).to(device)
        self.mask = torch.from_numpy(batch.mask.astype(np.bool_)).to(device)


class EncoderModel(nn.Module):  # type: ignore[misc]  # torch is not followed
    """The network. Its ``state_dict`` is the tensors it was made from."""

    def __init__(self, weights: Weights, shape: Shape, dropout: float) -> None:
        super().__init__()
        self._has_types = TOKEN_TYPES in weights
        self._heads = shape.num_attention_heads
        self._head_activation = _HEAD_ACTIVATIONS[shape.head_act]
        self._dropout = dropout
        wide = weights["encoder.layer.0.intermediate.dense.bias"].shape[0]
        names = {"word_embeddings": WORDS, "position_embeddings": POSITIONS, "token_type_embeddings": TOKEN_TYPES}
        tables = {name: nn.Embedding(*weights[key].shape) for name, key in names.items() if key in weights}
        self.embeddings = nn.ModuleDict({**tables, "LayerNorm": _norm(shape)})
        layers = nn.ModuleList(_layer(shape, wide) for _ in range(shape.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": layers})
        if has_head(weights):
            self.pooler = nn.ModuleDict({"dense": nn.Linear(shape.hidden_size, shape.hidden_size)})
            self.classifier = nn.Linear(shape.hidden_size, 1)
        self.take(weights)

    def take(self, weights: Weights) -> None:
        """Become these tensors."""
        self.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})

    def give(self) -> Weights:
        """A copy of the tensors."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.state_dict().items()}

    def hidden(self, texts: TokenRectangle) -> Tensor:
        """[texts, tokens, width]; what stands in the place of padding means nothing."""
        tables = self.embeddings
        positions = torch.arange(texts.ids.shape[1], device=texts.ids.device)
        x = tables["word_embeddings"](texts.ids) + tables["position_embeddings"](positions)
        if self._has_types:
            x = x + tables["token_type_embeddings"](texts.types)
        x = self._drop(tables["LayerNorm"](x))
        attended = texts.mask[:, None, None, :]
        for layer in self.encoder["layer"]:
            x = self._through(layer, x, attended)
        return x

    def scores(self, texts: TokenRectangle) -> Tensor:
        """[texts]: the head's score of each."""
        pooled = self._head_activation(self.pooler["dense"](self.hidden(texts)[:, 0]))
        return self.classifier(self._drop(pooled)).squeeze(-1)

    def vectors(self, texts: TokenRectangle, pooling: str) -> Tensor:
        """[texts, width], of length 1; ``pooling`` is one of the words of the engine's parameter."""
        hidden = self.hidden(texts)
        if pooling == "cls":
            pooled = hidden[:, 0]
        elif pooling == "last":
            last = texts.mask.sum(dim=1) - 1
            pooled = hidden[torch.arange(len(hidden), device=hidden.device), last]
        else:
            mask = texts.mask[..., None].to(hidden.dtype)
            pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        return functional.normalize(pooled, dim=-1)

    def _through(self, layer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        attention = layer["attention"]
        query, key, value = (self._split(attention["self"][part](x)) for part in ATTENTION_PARTS)
        seen = functional.scaled_dot_product_attention(
            query, key, value, mask, dropout_p=self._dropout if self.training else 0.0
        )
        seen = seen.transpose(1, 2).flatten(2)
        x = attention["output"]["LayerNorm"](x + self._drop(attention["output"]["dense"](seen)))
        wide = functional.gelu(layer["intermediate"]["dense"](x))
        output = layer["output"]
        return output["LayerNorm"](x + self._drop(output["dense"](wide)))

    def _split(self, x: Tensor) -> Tensor:
        """[texts, heads, tokens, width of a head]."""
        return x.unflatten(-1, (self._heads, -1)).transpose(1, 2)

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self._dropout, self.training)


def _layer(shape: Shape, wide: int) -> nn.ModuleDict:
    width = shape.hidden_size

    def dense(inputs: int, outputs: int) -> nn.ModuleDict:
        return nn.ModuleDict({"dense": nn.Linear(inputs, outputs)})

    def normed(inputs: int, outputs: int) -> nn.ModuleDict:
        return nn.ModuleDict({"dense": nn.Linear(inputs, outputs), "LayerNorm": _norm(shape)})

    parts = nn.ModuleDict({part: nn.Linear(width, width) for part in ATTENTION_PARTS})
    attention = nn.ModuleDict({"self": parts, "output": normed(width, width)})
    return nn.ModuleDict({"attention": attention, "intermediate": dense(width, wide), "output": normed(wide, width)})


def _norm(shape: Shape) -> nn.LayerNorm:
    return nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
