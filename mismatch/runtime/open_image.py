"""An image's source, opened: a file, bytes or pixels become an upright RGB image."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mismatch import images
from mismatch.colour_profiles import embedded_profile, to_srgb
from mismatch.data.embedded.containers import open_member
from mismatch.errors import ImageError, ImageNotFoundError, ImageRefusedError, MachineError
from mismatch.images import check_integers, from_array, to_8_bits, to_rgba
from mismatch.io.remote import Remote, is_url
from mismatch.io.retries import (
    NO_MEMORY,
    SHORTAGES,
    is_transient,
    open_once,
    reason,
    retried,
    shortage,
)
from mismatch.io.web_images import WebImage, is_web_url, shown_url
from mismatch.runtime.foreign_formats import foreign_format
from mismatch.runtime.identification import identify
from mismatch.runtime.image_bounds import check_decoder, check_structure
from mismatch.runtime.lazy_pictures import reading
from mismatch.runtime.orientation import TURNS, orientation, turned_copy, upright

__all__ = [
    "NO_LIMITS",
    "RGB8",
    "Box",
    "ImageLimits",
    "ImageSource",
    "PreparedImage",
    "Reduction",
    "image_error",
    "is_encoded",
    "open_image_file",
    "open_part",
    "own_pixels",
    "source_name",
]


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image that was decoded and resized elsewhere."""

    digest: bytes  # of its file
    pixels: NDArray[np.uint8]  # (S, S, 3), what the tower sees


ImageSource = images.ImageSource | PreparedImage
Box = tuple[float, float, float, float]  # pixels: left, top, right, bottom
RGB8 = tuple[int, int, int]  # 0..255
# an image's size → how many times smaller a JPEG is decoded: 1, 2, 4 or 8
Reduction = Callable[[tuple[int, int]], int]

# TIFF's tags, and a value
BITS = 258
PHOTOMETRIC = 262
WHITE_IS_ZERO = 0
SAMPLE_FORMAT = 339
SIGNED = 2
_PLAIN = 4  # bytes of a pixel, uncompressed


@dataclass(frozen=True)
class ImageLimits:
    """What is read, where that is less than everything."""

    # Pillow's names; none: all but those that run programs or unpack without end
    formats: tuple[str, ...] = ()
    max_pixels: int | None = None  # of one image; None: `PIL.Image.MAX_IMAGE_PIXELS`


NO_LIMITS = ImageLimits()


def is_encoded(source: ImageSource) -> bool:
    """Return whether it is a file, or the bytes of one, rather than pixels."""
    return not isinstance(source, Image.Image | np.ndarray | PreparedImage)


def open_part(
    source: ImageSource,
    background: RGB8,
    reduction: Reduction | None = None,
    *,
    name: str = "",
    limits: ImageLimits = NO_LIMITS,
    convert_colours: bool = True,
) -> tuple[Image.Image, Box]:
    """Return the image, and which part of it is the picture: all of it, but for a fraction of a
    pixel where it was decoded smaller.

    `name`: of the image in messages, if not the source's own. `convert_colours`: to sRGB, by the
    profile that the image brings.
    """
    name = name or source_name(source)
    try:
        decoded, (width, height) = _decode(source, name, reduction, limits)
        turned = upright(decoded)
        if turned.size != decoded.size:
            width, height = height, width
        profile = embedded_profile(turned) if convert_colours else b""
        return _to_rgb(turned, background, name, profile), (0, 0, width, height)
    except (ImageError, MachineError):
        raise
    except Exception as error:
        raise image_error(error, source, name) from error


def own_pixels(source: ImageSource) -> ImageSource:
    """Return an image that nobody else can change: pixels are copied, anything else is taken as it
    is. ImageError for a Pillow image that can't be decoded.
    """
    if isinstance(source, np.ndarray):
        return source.copy()
    if not isinstance(source, Image.Image):
        return source
    name = source_name(source)
    try:
        return turned_copy(_checked(source, name))
    except (ImageError, MachineError):
        raise
    except Exception as error:
        raise image_error(error, source, name) from error


def image_error(error: Exception, source: ImageSource, name: str) -> ImageError | MachineError:
    """Return what an exception means that reading or decoding an image raised."""
    # Pillow's own word for it is an OSError
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        return shortage(f"{name} can't be decoded", MemoryError())
    if isinstance(error, Image.DecompressionBombError):
        return ImageRefusedError(_too_large(name))
    # which says nothing of the image
    if (
        isinstance(error, OSError)
        and error.errno == errno.EHOSTUNREACH
        and isinstance(source, Remote)
    ):
        return MachineError(
            f"{name} can't be fetched: {reason(error)}; look after the network, then go on"
        )
    if isinstance(error, OSError) and is_transient(error):
        return ImageError(
            f"{name} can't be read ({reason(error)}); look after its disk or network, then score"
            " the row again"
        )
    return ImageError(
        f"{name} can't be decoded ({_reason(error)}): it is damaged or cut short; replace the file"
        " or drop the row"
    )


def source_name(source: ImageSource) -> str:
    """Return what an image is called in messages."""
    if isinstance(source, WebImage):
        return f"image '{source.shown}'"
    if isinstance(source, str | os.PathLike | Remote):
        is_web = isinstance(source, str) and is_web_url(source)
        return f"image '{shown_url(str(source)) if is_web else source}'"
    return "the image given as bytes" if isinstance(source, bytes) else "the image given"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _too_large(name: str) -> str:
    return (
        f"{name} has more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels; make it smaller, or raise"
        " PIL.Image.MAX_IMAGE_PIXELS if you trust its source"
    )


def _decode(
    source: ImageSource, name: str, reduction: Reduction | None, limits: ImageLimits
) -> tuple[Image.Image, tuple[float, float]]:
    """Decode any source → a loaded Pillow image of any mode, and how large the picture is in it,
    pixels.
    """
    if isinstance(source, Image.Image):
        with reading(source):
            _checked(source, name).load()  # a TIFF turns itself upright while it loads
            orientation(source)  # its EXIF data are parsed then
        return source, source.size
    if isinstance(source, np.ndarray):
        image = _checked(from_array(source, name), name)
        return image, image.size
    if isinstance(source, bytes):
        return _load(io.BytesIO(source), name, reduction, limits)
    if isinstance(source, PreparedImage):
        prepared = Image.fromarray(source.pixels)
        return prepared, prepared.size

    def decode_file() -> tuple[Image.Image, tuple[float, float]]:
        with open_image_file(source) as file:
            return _load(file, name, reduction, limits)

    return retried(decode_file)


def open_image_file(path: Path | str | Remote) -> io.BufferedReader | io.BytesIO:
    """Open an image's file, fetch its object, or read it from the file of rows in which it stands.

    ImageNotFoundError where none is. ImageError for an address, a folder, a pipe or what may not be
    read. MachineError where file handles run out. What may pass is an OSError still, for `retried`.
    """
    if not isinstance(path, (str, os.PathLike, Remote)):  # an int would be a file descriptor
        raise images.no_image(path)
    name = source_name(path)
    if isinstance(path, str) and is_web_url(path):
        path = WebImage.of(path)
    if isinstance(path, str) and is_url(path):
        raise ImageError(
            f"{name} is an address; mismatch fetches nothing: download it first and give its path"
        )
    try:
        if isinstance(path, Remote):
            return io.BytesIO(_fetched(path, name))
        return _opened(path, name)
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise ImageNotFoundError(
            f"{name} not found; check its path and the folder that it is relative to"
        ) from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_transient(error):
            raise
        if isinstance(error, OSError) and error.errno in SHORTAGES:
            raise shortage(f"{name} can't be opened", error) from None
        raise ImageError(
            f"{name} can't be opened ({_reason(error)}); check its path and permissions"
        ) from None


def _opened(path: str | Path, name: str) -> io.BufferedReader | io.BytesIO:
    """Open a file, or an image that stands in a file of rows; a file of that name counts first."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        member = open_member(path)
        if member is None:
            raise
        return member
    if not stat.S_ISREG(mode):  # a pipe would wait without end
        raise ImageError(f"{name} is a folder or a device, not a file; check the row's image_path")
    return open_once(path)


def _fetched(place: Remote, name: str) -> bytes:
    """Fetch an object by one request, which asks for no more than a picture of as many pixels as
    are allowed takes without compression.
    """
    max_bytes = 2**63 - 2 if Image.MAX_IMAGE_PIXELS is None else _PLAIN * Image.MAX_IMAGE_PIXELS
    data = place.read(0, max_bytes + 1)
    if len(data) > max_bytes:
        raise ImageError(
            f"{name} has more than {max_bytes:,} bytes; make it smaller, or raise"
            " PIL.Image.MAX_IMAGE_PIXELS if you trust its source"
        )
    return data


def _load(
    file: IO[bytes], name: str, reduction: Reduction | None, limits: ImageLimits
) -> tuple[Image.Image, tuple[float, float]]:
    check_structure(file, name)
    image = identify(file, limits.formats)
    if image is None and not file.seek(0, os.SEEK_END):
        raise ImageRefusedError(f"{name} is empty (0 bytes); replace the file or drop the row")
    if image is None and limits.formats:
        raise ImageRefusedError(
            f"{name} is of no known format; one of {', '.join(limits.formats)} is needed"
        )
    if image is None:
        words = foreign_format(file) or (
            "not an image in a format that Pillow reads; replace the file or drop the row"
        )
        raise ImageRefusedError(f"{name} is {words}")
    width, height = _checked(image, name, limits.max_pixels).size
    check_decoder(image, name)
    times = reduction((width, height)) if reduction is not None and image.format == "JPEG" else 1
    if (width % times or height % times) and orientation(image) in TURNS:
        times = 1  # the fraction of a pixel would come to lie at another edge
    if times > 1:
        image.draft(image.mode, (width // times, height // times))
    image.load()
    _checked(image, name, limits.max_pixels)  # of HEIC the size may have been another
    return image, (image.size if times == 1 else (width / times, height / times))


def _checked(image: Image.Image, name: str, max_pixels: int | None = None) -> Image.Image:
    pixels = image.width * image.height
    if not pixels:
        raise ImageError(
            f"{name} has no pixels ({image.width} x {image.height}); replace the file or drop"
            " the row"
        )
    if max_pixels is not None and pixels > max_pixels:
        raise ImageRefusedError(f"{name} has more than {max_pixels:,} pixels; make it smaller")
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise ImageRefusedError(_too_large(name))
    return image


def _to_rgb(image: Image.Image, background: RGB8, name: str, profile: bytes) -> Image.Image:
    if image.mode.startswith("I"):
        image = _from_integers(image, name)
    if image.mode == "F":
        raise ImageError(
            f"{name} has floating-point pixels, whose range is unknown; convert it to 8 bits"
        )
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(canvas, _transparent(image, name, profile)).convert("RGB")
    image = to_srgb(image, profile, name)
    return image if image.mode == "RGB" else image.convert("RGB")


def _transparent(image: Image.Image, name: str, profile: bytes) -> Image.Image:
    """Return a picture with transparency as RGBA, its colours as sRGB."""
    rgba = to_rgba(image)
    if not profile:
        return rgba
    colours = rgba.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")
    converted = to_srgb(colours, profile, name)
    if converted is not colours:
        converted.putalpha(rgba.getchannel("A"))
    return converted if converted is not colours else rgba


def _from_integers(image: Image.Image, name: str) -> Image.Image:
    """Convert modes I;16 and I (as Pillow reads 16-bit files) → L."""
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 65535:
        raise ImageError(
            f"{name} has pixels from {levels.min()} to {levels.max()}; convert it to 8 or 16 bits"
        )
    check_integers(image.mode, int(levels.max()), name)
    tags = getattr(image, "tag_v2", {})  # TIFF's
    if SIGNED in tags.get(SAMPLE_FORMAT, ()):
        raise ImageError(f"{name} has signed pixels, whose range is unknown; convert it to 8 bits")
    bits = tags.get(BITS, (16,))[0]
    if bits < 16:  # Pillow leaves 12 bits as they are
        levels = levels.astype(np.uint32) * 65535 // (2**bits - 1)
    if bits <= 16 and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        levels = 65535 - levels
    return Image.fromarray(to_8_bits(levels))
