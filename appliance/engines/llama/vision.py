"""The second door to llama.cpp: libmtmd, which makes images a language model's tokens with the projector beside it.

Made and closed by the engine. Reading a prompt with its images (``read``) may happen in any thread; what a ``Look``
computes, and the encoder's own buffers, belong to the engine's thread. The encoder runs on the processor.

An image's tokens are numbers below 0 made from a digest of its pixels, so that whoever compares prompts token by token
tells images apart without knowing of them.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import PIL.Image

from appliance.domain.errors import BadWeights, Internal, InvalidParameter, InvalidRequest, WrongWeights
from appliance.domain.inference import IMAGE_MARK, Image
from appliance.engines.llama import runtime
from appliance.engines.llama.runtime import Context, Model
from appliance.engines.pictures import decode

Ints = npt.NDArray[np.int32]

MAX_IMAGES: Final = 32
MISSING: Final = "this llama-cpp-python was built without libmtmd, which reads images (run install.sh again)"
_TEXT_CHUNK, _IMAGE_CHUNK = 0, 1
_GREY: Final = PIL.Image.new("RGB", (64, 64), (128, 128, 128))


def is_available() -> bool:
    """Whether this build of llama-cpp-python has libmtmd."""
    try:
        _library()
    except InvalidParameter:
        return False
    return True


def _library() -> Any:
    try:
        import llama_cpp.mtmd_cpp as library
    except (OSError, RuntimeError, ImportError) as error:
        raise InvalidParameter(MISSING) from error
    return library


class _Look:
    """An image of one prompt, prepared for the encoder."""

    def __init__(self, vision: Vision, chunk: Any, start: int, tokens: int) -> None:
        self._vision = vision
        self._chunk = chunk
        self.start = start
        self.tokens = tokens

    def compute(self, context: Context, sequence: int) -> bool:
        """Encode it and fill cells of the sequence; blocks."""
        return self._vision.compute(self._chunk, context, sequence, self.start)

    def __del__(self) -> None:
        self._vision.forget(self._chunk)


class Vision:
    """A projector over loaded weights. Close it after the engine's thread has ended."""

    def __init__(self, model: Model, projector: Path, *, threads: int, batch_tokens: int) -> None:
        """Load, and look at a grey picture; blocks. Raises BadWeights, WrongWeights, InvalidParameter."""
        self._library = _library()
        self._model = model
        self._batch_tokens = batch_tokens
        self._decoding = threading.Lock()
        self._marker = IMAGE_MARK.encode()
        self._library.mtmd_helper_log_set(runtime.log_callback(), None)
        parameters = self._library.mtmd_context_params_default()
        parameters.use_gpu = parameters.print_timings = parameters.warmup = False
        parameters.n_threads = threads
        parameters.media_marker = self._marker
        self._context = self._library.mtmd_init_from_file(str(projector).encode(), model.handle, parameters)
        if not self._context:
            raise BadWeights(
                f"llama.cpp cannot load '{projector.name}' over these weights: {runtime.complaint()}; import the model "
                "with the projector that was made for it"
            )
        try:
            self._check()
        except (BadWeights, WrongWeights):
            self.close()
            raise

    def _check(self) -> None:
        if not self._library.mtmd_support_vision(self._context):
            raise WrongWeights("the projector reads no images; one that hears only is not served")
        if self._library.mtmd_decode_use_mrope(self._context):
            raise WrongWeights(
                "the projector places images in more than one dimension (M-RoPE), which is not served; import the "
                "model without it for texts"
            )
        (look,) = self._read(IMAGE_MARK, [_GREY], add_special=False)[1][:1]
        if self._library.mtmd_encode_chunk(self._context, look._chunk):
            raise BadWeights(f"the projector cannot encode an image: {runtime.complaint()}")

    def read(self, text: str, images: Sequence[Image], *, add_special: bool) -> tuple[Ints, tuple[_Look, ...]]:
        """The tokens of a prompt that has a mark for each of its images, and the images; blocks.

        Raises InvalidRequest for images that cannot be read, InvalidParameter.
        """
        if len(images) > MAX_IMAGES:
            raise InvalidParameter(f"{len(images)} images were sent, one request takes {MAX_IMAGES}; send fewer")
        if text.count(IMAGE_MARK) != len(images):
            raise InvalidParameter("messages: the model's chat template writes the images' places otherwise than once")
        with self._decoding:  # one at a time: a picture takes much RAM while it is decoded
            pictures = [decode(image, f"image {index}") for index, image in enumerate(images)]
        with self._model.vocabulary.in_use():
            tokens, looks = self._read(text, pictures, add_special=add_special)
        if not len(tokens) or tokens[-1] < 0:
            raise InvalidParameter("messages: the prompt ends in an image; the chat template must write text behind it")
        return tokens, looks

    def compute(self, chunk: Any, context: Context, sequence: int, position: int) -> bool:
        """Encode an image and put it into the sequence's cells; the engine's thread only."""
        if self._library.mtmd_encode_chunk(self._context, chunk):
            raise Internal(f"the projector failed to encode an image: {runtime.complaint()}")
        embeddings = self._library.mtmd_get_output_embd(self._context)
        after = ctypes.c_int32()
        no_callback = self._library.mtmd_helper_post_decode_callback()

        def decode_image(c_context: Any) -> int:
            return int(
                self._library.mtmd_helper_decode_image_chunk(
                    self._context,
                    c_context,
                    chunk,
                    embeddings,
                    position,
                    sequence,
                    self._batch_tokens,
                    ctypes.byref(after),
                    no_callback,
                    None,
                )
            )

        done = context.decode_by(decode_image)
        if not done:
            context.forget(sequence, position)  # some of it may have found room
        return done

    def forget(self, chunk: Any) -> None:
        """Free a prepared image."""
        self._library.mtmd_input_chunk_free(chunk)

    def close(self) -> None:
        """Free the projector. Twice is fine."""
        context, self._context = self._context, None
        if context:
            self._library.mtmd_free(context)

    def _read(
        self, text: str, pictures: Sequence[PIL.Image.Image], *, add_special: bool
    ) -> tuple[Ints, tuple[_Look, ...]]:
        library, raw = self._library, text.encode()
        bitmaps = [self._bitmap(picture) for picture in pictures]
        chunks = library.mtmd_input_chunks_init()
        try:
            asked = library.mtmd_input_text(text=raw, text_len=len(raw), add_special=add_special, parse_special=True)
            handles = (library.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
            status = library.mtmd_tokenize(self._context, chunks, ctypes.byref(asked), handles, len(bitmaps))
            if status:
                raise InvalidRequest(f"llama.cpp cannot prepare the images (status {status}): {runtime.complaint()}")
            return self._parts(chunks)
        finally:
            library.mtmd_input_chunks_free(chunks)
            for bitmap in bitmaps:
                library.mtmd_bitmap_free(bitmap)

    def _bitmap(self, picture: PIL.Image.Image) -> Any:
        pixels = picture.tobytes()
        data = (ctypes.c_uint8 * len(pixels)).from_buffer_copy(pixels)
        bitmap = self._library.mtmd_bitmap_init(picture.width, picture.height, data)
        digest = hashlib.sha256(f"{picture.width} {picture.height} ".encode() + pixels).hexdigest()
        self._library.mtmd_bitmap_set_id(bitmap, digest.encode())
        return bitmap

    def _parts(self, chunks: Any) -> tuple[Ints, tuple[_Look, ...]]:
        parts: list[Ints] = []
        looks: list[_Look] = []
        seen: Counter[bytes] = Counter()
        start = 0
        for index in range(self._library.mtmd_input_chunks_size(chunks)):
            chunk = self._library.mtmd_input_chunks_get(chunks, index)
            if self._library.mtmd_input_chunk_get_type(chunk) == _TEXT_CHUNK:
                parts.append(self._text_tokens(chunk))
            else:
                parts.append(self._image_tokens(chunk, seen))
                looks.append(_Look(self, self._library.mtmd_input_chunk_copy(chunk), start, len(parts[-1])))
            start += len(parts[-1])
        return np.concatenate([np.empty(0, np.int32), *parts]), tuple(looks)

    def _text_tokens(self, chunk: Any) -> Ints:
        count = ctypes.c_size_t()
        tokens = self._library.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
        return np.array([tokens[index] for index in range(count.value)], np.int32)

    def _image_tokens(self, chunk: Any, seen: Counter[bytes]) -> Ints:
        """Numbers below 0 that name this part of this image. Raises InvalidRequest for one that is too large."""
        count = int(self._library.mtmd_input_chunk_get_n_tokens(chunk))
        if self._library.mtmd_decode_use_non_causal(self._context, chunk) and count > self._batch_tokens:
            raise InvalidRequest(
                f"an image of {count} tokens was sent, and this model reads at most {self._batch_tokens} at once; "
                "scale it down"
            )
        name = self._library.mtmd_input_chunk_get_id(chunk) or b""
        seen[name] += 1
        stream = hashlib.shake_256(name + b"/" + str(seen[name]).encode()).digest(4 * count)
        return -1 - (np.frombuffer(stream, np.int32) & 0x7FFF_FFFE)
