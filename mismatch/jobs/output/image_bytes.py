"""The files of images, as they are: to be put into tables and archives."""

from __future__ import annotations

from collections.abc import Sequence

from mismatch.data.columns import locate_image
from mismatch.errors import ImageError, InputError, MachineError
from mismatch.io.remote import located
from mismatch.io.retries import is_transient, reason
from mismatch.runtime.open_image import open_image_file

__all__ = ["MAX_BYTES", "ImageBytes", "image_ending"]

MAX_BYTES = 2**28  # of an image; an uncompressed picture of 90 million pixels has as many
# first bytes of the formats that readers of webdataset know → their ending
MARKS = ((b"\xff\xd8\xff", "jpg"), (b"\x89PNG\r\n\x1a\n", "png"))
WEBP = (b"RIFF", b"WEBP")


class ImageBytes:
    """Reads images of rows, wherever they lie: files, objects, or other rows."""

    def __init__(self, base: str, *, for_archives: bool = False) -> None:
        """Take `base`, the folder or URL that image paths are relative to. `for_archives`: refuse
        formats that archives don't hold.
        """
        self._base = located(base)
        self._for_archives = for_archives

    def read(self, images: Sequence[str]) -> bytes:
        """Return the bytes of a row's image, which nothing is changed in. ImageError where there is
        none, more than one, or too much; MachineError where the disk fails.
        """
        if len(images) != 1:
            raise ImageError(
                f"this row has {len(images)} images, and one is put into a row; give each image a"
                " row of its own"
            )
        [image] = images
        try:
            with open_image_file(locate_image(self._base, image, outside=True)) as file:
                data = file.read(MAX_BYTES + 1)
        except ImageError:
            raise
        except InputError as error:
            raise ImageError(str(error)) from error
        except OSError as error:
            if is_transient(error):
                raise MachineError(f"image '{image}' can't be read: {reason(error)}") from error
            raise ImageError(f"image '{image}' can't be read: {error.strerror}") from error
        if not data or len(data) > MAX_BYTES:
            what = "is empty" if not data else f"has more than {MAX_BYTES:,} bytes"
            raise ImageError(f"image '{image}' {what}; replace it, or take the row out")
        if self._for_archives:
            image_ending(data, image)
        return data


def image_ending(data: bytes, image: str) -> str:
    """Return the ending of an encoded image's format. ImageError, which names the `image`, for a
    format that readers of archives don't know.
    """
    if data.startswith(WEBP[0]) and data[8:12] == WEBP[1]:
        return "webp"
    for mark, ending in MARKS:
        if data.startswith(mark):
            return ending
    raise ImageError(
        f"image '{image}' is no JPEG, PNG or WebP, which archives hold; write it as one of them, or"
        " name the output .parquet"
    )
