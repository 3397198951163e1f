"""Untrusted image files: base64 as clients write it, bounds on bytes, and decoding in
processes of its own, never on the event loop.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import ImageError, ImageRefusedError, without_traceback
from mismatch.runtime.decoding import DecodingPool, can_isolate
from mismatch.runtime.pipeline import image_digest
from mismatch.runtime.preprocess import ImageLimits, PreparedImage, Preprocessor
from mismatch.serving.budget import current_account
from mismatch.serving.configuration import Settings
from mismatch.serving.models import Served
from mismatch.serving.telemetry import log
from mismatch.specs import ImageSpec

__all__ = ["FORMATS", "ImageDecoder", "from_base64"]

# Pillow's names; nothing that runs another program or holds a script
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO")
LARGE = 2**18  # bytes, from which on even a hash is made next to the event loop
NAME = "the image"  # its name in messages
MAX_FAILURES = 1_024  # images that are known to fail
DATA_URL = re.compile(
    r"data:[\w.+-]{0,64}/?[\w.+-]{0,64}(;[\w=.+-]{0,64}){0,4};base64,", re.ASCII | re.IGNORECASE
)
BLANKS = b" \t\r\n"
STANDARD = bytes.maketrans(b"-_", b"+/")  # the letters of URL-safe base64
SPARE = 4_096  # characters, beyond the image's, of blanks and of a data URL's head


def from_base64(text: str, *, max_bytes: int) -> bytes:
    """Return the bytes of an image in base64.

    It may be a data URL, in lines, URL-safe, and without its padding. ImageRefusedError for
    anything else, and for more than `max_bytes`.
    """
    longest = 4 * (max_bytes // 3 + 1)
    # lines of 64 characters and CR LF at the shortest
    if len(text) > longest + longest // 32 + SPARE:
        raise _too_large(max_bytes)
    if text[:5].lower() == "data:":
        head = DATA_URL.match(text)
        if head is None:
            raise ImageRefusedError(
                "the image is a data URL, but not in base64; write data:image/png;base64, and the"
                " file's bytes"
            )
        text = text[head.end() :]
    try:
        plain = text.encode("ascii").translate(STANDARD, BLANKS).rstrip(b"=")
        data = base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ImageRefusedError("the image is not base64; encode the file's bytes") from None
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    return data


def _too_large(max_bytes: int) -> ImageRefusedError:
    return ImageRefusedError(f"the image has more than {max_bytes:,} bytes; send a smaller file")


class ImageDecoder:
    """Decodes for all requests of a service. Nothing of an image is looked at in this process,
    where the system can fork.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # keys: the digests of images, and what they were decoded for, which decides of the cost
        self._failures: OrderedDict[tuple[bytes, ImageSpec], ImageError] = OrderedDict()
        self._pool: DecodingPool | None = None
        if can_isolate():
            self._pool = DecodingPool(
                max_pixels=settings.max_pixels, formats=FORMATS, seconds=settings.decode_seconds
            )
        else:
            log.warning(
                {
                    "message": (
                        "this system can't fork: images are decoded in the service's own process"
                    )
                }
            )

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.close()

    async def prepared(
        self, data: bytes, served: Served, request: Hashable, *, pixels: bool = False
    ) -> PreparedImage:
        """Return what the model's tower sees; unless `pixels` are needed, a RememberedImage where
        it was embedded before.

        Each client has its turn, and each `request` of one. ImageRefusedError for what is not
        decoded at all, ImageError for what is damaged or too costly.
        """
        if not data:
            raise ImageRefusedError("the image is empty (0 bytes)")
        if len(data) > self._settings.max_image:
            raise _too_large(self._settings.max_image)
        digest = (
            image_digest(data) if len(data) < LARGE else await asyncio.to_thread(image_digest, data)
        )
        remembered = None if pixels else served.remembered(digest)
        if remembered is not None:
            return remembered
        spec = served.predictor.engine.image_spec
        if (digest, spec) in self._failures:
            failure = self._failures[digest, spec]
            # a fresh one: each raise adds frames to an error, and these hold the picture
            raise type(failure)(str(failure))
        try:
            return PreparedImage(digest, await self._decoded(data, spec, request))
        except ImageError as error:
            self._note_failure((digest, spec), error)
            raise type(error)(str(error)) from None

    async def _decoded(self, data: bytes, spec: ImageSpec, request: Hashable) -> NDArray[np.uint8]:
        if self._pool is None:
            return await asyncio.to_thread(self._decoded_here, data, spec)
        account = current_account()
        client = None if account is None else account.client
        return await asyncio.wrap_future(
            self._pool.submit(data, spec, name=NAME, client=client, request=request)
        )

    def _note_failure(self, key: tuple[bytes, ImageSpec], error: ImageError) -> None:
        """Remember a failure, so that the same picture costs its ten seconds once."""
        self._failures[key] = without_traceback(error)
        if len(self._failures) > MAX_FAILURES:
            self._failures.popitem(last=False)

    def _decoded_here(self, data: bytes, spec: ImageSpec) -> NDArray[np.uint8]:
        """Decode in this process, on a thread."""
        limits = ImageLimits(FORMATS, self._settings.max_pixels)
        return np.asarray(Preprocessor(spec).local_picture(data, name=NAME, limits=limits))
