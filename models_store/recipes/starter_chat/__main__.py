"""The recipe's command line: `python -m models_store.recipes.starter_chat COMMAND`."""

from __future__ import annotations

import argparse
from pathlib import Path

STORE = Path(__file__).resolve().parents[2]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="starter_chat", description="Build starter-chat from nothing.")
    parser.add_argument("command", choices=("show", "tokenizer", "train", "export", "evaluate", "reopen", "all"))
    parser.add_argument(
        "--folder", type=Path, default=Path("starter-chat-build"), help="scratch folder for tokenizer and checkpoint"
    )
    parser.add_argument("--minutes", type=float, default=90.0, help="time to train")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", type=Path, help="checkpoint to go on from")
    parser.add_argument("--rate-scale", type=float, default=1.0, help="factor on the learning rates")
    parser.add_argument("--decay-from", type=float, default=0.55, help="share of the time after which the rates fall")
    parser.add_argument("--gguf", type=Path, default=STORE / "weights" / "starter-chat.gguf")
    parser.add_argument("--card", type=Path, default=STORE / "cards" / "starter-chat.md")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the evaluation's items; below 1 no card is written"
    )
    parser.add_argument("--misses", type=int, default=0, help="failures to print per skill")
    return parser


def _show(seed: int) -> None:
    from itertools import islice

    from . import conversations

    for made in islice(conversations.stream(seed), 20):
        print(conversations.text(made), end="\n-----\n")


def _tokenizer(folder: Path) -> None:
    from . import tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.build().save(str(folder / "tokenizer.json"))


def _train(options: argparse.Namespace) -> None:
    from .train import Settings, train

    settings = Settings(
        minutes=options.minutes,
        seed=options.seed,
        decay_from=options.decay_from,
        muon_rate=Settings.muon_rate * options.rate_scale,
        adam_rate=Settings.adam_rate * options.rate_scale,
    )
    train(options.folder, settings, options.resume)


def _export(options: argparse.Namespace) -> None:
    from .export import export

    export(options.folder / "checkpoint.pt", options.folder / "tokenizer.json", options.gguf)


def _reopen(options: argparse.Namespace) -> None:
    from .reopen import reopen

    reopen(options.gguf, options.folder)


def _evaluate(options: argparse.Namespace) -> None:
    from .evaluate import evaluate

    evaluate(options.gguf, options.card if options.scale >= 1 else None, options.scale, options.misses)


def main() -> None:
    """Run one step, or all of them in order."""
    options = _parser().parse_args()
    every = options.command == "all"
    if options.command == "show":
        _show(options.seed)
    if options.command == "reopen":
        _reopen(options)
    if every or options.command == "tokenizer":
        _tokenizer(options.folder)
    if every or options.command == "train":
        _train(options)
    if every or options.command == "export":
        _export(options)
    if every or options.command == "evaluate":
        _evaluate(options)


if __name__ == "__main__":
    main()
