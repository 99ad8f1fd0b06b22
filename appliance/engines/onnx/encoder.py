"""Loaded graphs with their tokenizer: texts in, and images where the weights have a tower for them; numbers out.

Made by ``engines`` in a worker thread. The towers of image and text weights are two files or two ways through one
graph; either way they are one copy of weights, held and let go together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from appliance.domain.errors import BadWeights, WrongWeights
from appliance.engines.base import CPU, EngineSpec, Placement
from appliance.engines.onnx.preprocessing import CHANNELS, Preprocessing
from appliance.engines.onnx.session import IMAGE_TOWER, TEXT_TOWER, TEXTS, Reading, Session
from appliance.engines.onnx.settings import IMAGE_MODEL, MODEL, TEXT_MODEL, Settings, session_key
from appliance.engines.onnx.tasks import Encoded, EncodedImage, EncodedText, Floats, pad, stack, unpad
from appliance.engines.onnx.text import Tokenizer
from appliance.engines.shared import WEIGHTS

_FIXED_LENGTH: Final = ("siglip", "siglip2")
"""Architectures whose text tower reads as many tokens as in training, padding and all, and looks at the last one."""


class Sessions:
    """The graphs of one model: of texts, and of images if it has a tower for them."""

    def __init__(self, texts: Session, images: Session | None = None) -> None:
        self.texts = texts
        self.images = images

    def close(self) -> None:
        """Free the weights. Twice is fine."""
        self.texts.close()
        if self.images is not None:
            self.images.close()


class Encoder:
    """A model that takes batches. A text gives token vectors or a row of numbers, an image a row."""

    def __init__(self, spec: EngineSpec, settings: Settings, placement: Placement, limit_bytes: int) -> None:
        """Load, and run a first pass to see what the graphs give; blocks.

        Raises BadWeights, WrongWeights, CannotFit.
        """
        self.tokenizer = Tokenizer(
            spec.weights / "tokenizer.json",
            max_tokens=settings.max_tokens,
            vocabulary_size=spec.card.vocabulary_size,
        )
        self.image_tokens = int(spec.card.extra.get("image_tokens", 1))
        self._least_tokens = settings.max_tokens if spec.card.architecture in _FIXED_LENGTH else 0
        key = (placement.gpus and placement.weights_key) or session_key(spec, settings)
        device = placement.gpus[0].device if placement.gpus else CPU
        load = partial(_load, spec.weights, settings, device, limit_bytes if placement.gpus else None)
        self._hold = WEIGHTS.load(key, load)
        self.session = self._hold.weights.texts
        self._images = self._hold.weights.images
        try:
            self.sample = self._first_pass(self.tokenizer.encode([""], "an empty text")[0], self.session)
            if self._images is not None and settings.images is not None:
                self._check_images(self._images, settings.images)
        except (BadWeights, WrongWeights):
            self.close()
            raise

    def run(self, batch: Sequence[Encoded]) -> list[Floats]:
        """One batch. What the runtime raises means a broken session: whoever loads next gets another one."""
        texts = [each for each in batch if isinstance(each, EncodedText)]
        images = [each for each in batch if isinstance(each, EncodedImage)]
        try:
            of_texts, of_images = iter(self._run_texts(texts)), iter(self._run_images(images))
        except Exception:
            self.spoil()
            raise
        return [next(of_images if isinstance(each, EncodedImage) else of_texts) for each in batch]

    def spoil(self) -> None:
        """Whoever comes next over these weights gets a session of their own."""
        self._hold.spoil()

    def close(self) -> None:
        """Let go of the session, which is freed when no other engine has it. Twice is fine."""
        self._hold.release()

    @property
    def gives_token_vectors(self) -> bool:
        """Whether a text's output is [tokens, width], else one row of numbers."""
        return self.sample.ndim == 2

    def _run_texts(self, texts: Sequence[EncodedText]) -> list[Floats]:
        if not texts:
            return []
        return unpad(self.session.run(pad(texts, self.tokenizer.pad_id, self._least_tokens)), texts)

    def _run_images(self, images: Sequence[EncodedImage]) -> list[Floats]:
        if not images:
            return []
        assert self._images is not None
        return list(self._images.run(stack(images)))

    def _first_pass(self, one: Encoded, session: Session) -> Floats:
        try:
            (output,) = self.run([one])
        except Exception as error:  # the runtime's exceptions share no base of their own
            raise BadWeights(f"the model's first pass failed: {str(error)[:500]}") from error
        if output.ndim not in (1, 2) or not np.isfinite(output).all():
            raise WrongWeights(f"output '{session.output_name}' is no vector per token or per text of numbers")
        return output

    def _check_images(self, images: Session, how: Preprocessing) -> None:
        """Both towers lead into one space, as far as its width tells."""
        grey = EncodedImage(np.zeros((CHANNELS, how.height, how.width), np.float32), self.image_tokens)
        of_image = self._first_pass(grey, images)
        if self.sample.ndim != 1 or of_image.shape != self.sample.shape:
            raise WrongWeights(
                f"the towers lead into different spaces: '{self.session.output_name}' of a text has the shape "
                f"{list(self.sample.shape)}, '{images.output_name}' of an image {list(of_image.shape)}; export them "
                "with their projections (text_embeds and image_embeds)"
            )


def _load(folder: Path, settings: Settings, device: str, limit_bytes: int | None) -> Sessions:
    def session(name: str, reading: Reading = TEXTS, idle: Mapping[str, Any] | None = None) -> Session:
        model = folder / name
        limit = None if limit_bytes is None else int(limit_bytes * _share(model, folder))
        return Session(model, device=device, threads=settings.threads, limit_bytes=limit, reading=reading, idle=idle)

    if settings.images is None:
        return Sessions(session(MODEL))
    idle_ids, idle_mask = np.zeros((1, 1), np.int64), np.ones((1, 1), np.int64)
    of_text = {"input_ids": idle_ids, "attention_mask": idle_mask, "token_type_ids": idle_ids, "position_ids": idle_ids}
    of_image = {"pixel_values": np.zeros((1, CHANNELS, settings.images.height, settings.images.width), np.float32)}
    if (folder / MODEL).is_file():
        both = session(MODEL, TEXT_TOWER, of_image)
        return Sessions(both, both.also(IMAGE_TOWER, of_text))
    texts = session(TEXT_MODEL, TEXT_TOWER)
    try:
        return Sessions(texts, session(IMAGE_MODEL, IMAGE_TOWER))
    except Exception:
        texts.close()
        raise


def _share(model: Path, folder: Path) -> float:
    """Of a GPU's memory for these weights, the part of one of its files with what lies beside it."""
    sizes = {
        name: sum(path.stat().st_size for path in folder.glob(f"{name}*"))
        for name in (MODEL, TEXT_MODEL, IMAGE_MODEL)
        if (folder / name).is_file()
    }
    return sizes[model.name] / max(1, sum(sizes.values()))
