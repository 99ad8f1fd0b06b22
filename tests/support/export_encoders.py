"""Makes ``golden/encoders``: small random encoders as PyTorch's exporter, and with it Optimum, writes them.

``python -m tests.support.export_encoders`` with torch 2.13, transformers 5.24 and onnx. Kept as files, because the
exporter takes longer than all tests that need them. Their tokenizer is that of ``onnx_folders``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.support.onnx_folders import POSITIONS, VOCABULARY, write_tokenizer

FOLDER = Path(__file__).parent / "golden" / "encoders"
TYPED = ("input_ids", "attention_mask", "token_type_ids")
UNTYPED = TYPED[:2]
COMMON = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "attn_implementation": "eager",
}
DISTIL = {"vocab_size": len(VOCABULARY), "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 32}


def main() -> None:
    import transformers  # here only: the tests import this module for the folder's place

    torch.manual_seed(7)
    bert, roberta, distil = transformers.BertConfig, transformers.RobertaConfig, transformers.DistilBertConfig
    _export("bert", transformers.BertModel(bert(**COMMON)), TYPED, "last_hidden_state")
    score = transformers.BertForSequenceClassification(bert(**COMMON, num_labels=1))
    _export("bert-cross", score, TYPED, "logits")
    two = transformers.RobertaForSequenceClassification(roberta(**COMMON, num_labels=2, type_vocab_size=1))
    _export("roberta-cross", two, UNTYPED, "logits")
    small = distil(**DISTIL, max_position_embeddings=POSITIONS, num_labels=1, attn_implementation="eager")
    _export("distilbert-cross", transformers.DistilBertForSequenceClassification(small), UNTYPED, "logits")


def _export(name: str, model: Any, inputs: tuple[str, ...], output: str) -> None:
    """With larger random weights than models begin with, so that outputs differ."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    model.config.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer.json")
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    texts = {"input_ids": ids, "attention_mask": (ids > 0).long(), "token_type_ids": torch.zeros_like(ids)}
    kind = type(model)

    class Exported(kind):  # type: ignore[misc, valid-type]
        """Positional inputs and one output, which is what the exporter takes."""

        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            return kind.forward(self, **dict(zip(inputs, given, strict=True)), return_dict=True)[0]  # type: ignore[no-any-return]

    model.__class__ = Exported
    torch.onnx.export(
        model,
        tuple(texts[name] for name in inputs),
        str(folder / "model.onnx"),
        input_names=list(inputs),
        output_names=[output],
        dynamic_axes={**{name: {0: "batch", 1: "sequence"} for name in inputs}, output: {0: "batch"}},
        dynamo=False,
        opset_version=17,
    )


if __name__ == "__main__":
    main()
