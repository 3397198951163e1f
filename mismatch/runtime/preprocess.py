"""Images become pixel_values: the only place where that happens, in training and in production."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mismatch import images
from mismatch.errors import ImageError, ImageNotFoundError, ImageRefusedError, MachineError
from mismatch.remote import Remote, is_url
from mismatch.retries import (
    NO_MEMORY,
    SHORTAGES,
    is_transient,
    open_once,
    reason,
    retried,
    shortage,
)
from mismatch.runtime.image_bounds import check_decoder, check_structure, is_costly_exif
from mismatch.specs import RGB, ImageSpec

__all__ = [
    "Decoder",
    "ImageLimits",
    "ImageSource",
    "PreparedImage",
    "Preprocessor",
    "decoded_by",
    "image_error",
    "open_image",
    "open_image_file",
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

WHITE = (255, 255, 255)
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {  # EXIF orientation → what puts the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_REFUSED_FORMATS = {  # beside what else Pillow reads
    "EPS",  # Pillow runs Ghostscript to read it
    "FITS",  # may unpack to any size
    "FPX",
    "IPTC",
    "MIC",  # these three open a picture within a picture
}
_REACH = 3  # lanczos, the widest filter, looks 3 pixels of the coarser grid to each side
_OVER = 2  # times the resolution that is needed which a JPEG keeps when it is decoded smaller
_PLAIN = 4  # bytes of a pixel, uncompressed
_LONG = 8  # long side over short side, from where on only the cropped part is resized


@dataclass(frozen=True)
class ImageLimits:
    """What is read, where that is less than everything."""

    # Pillow's names; none: all but those that run programs or unpack without end
    formats: tuple[str, ...] = ()
    max_pixels: int | None = None  # of one image; None: `PIL.Image.MAX_IMAGE_PIXELS`


NO_LIMITS = ImageLimits()


class Decoder(Protocol):
    """Whoever decodes in place of this process."""

    def picture(self, spec: ImageSpec, source: ImageSource) -> Image.Image:
        """What `Preprocessor(spec).picture` gives, and raises."""

    def image(self, source: ImageSource, background: RGB8) -> Image.Image:
        """What `open_image` gives, and raises."""


_decoder: Decoder | None = None  # of this process; see `decoded_by`


@contextmanager
def decoded_by(decoder: Decoder) -> Iterator[None]:
    """Let `decoder` decode all images of this process, on whichever thread, until the end."""
    global _decoder
    before = _decoder
    _decoder = decoder
    try:
        yield
    finally:
        _decoder = before


def open_image(source: ImageSource, background: RGB8 = WHITE) -> Image.Image:
    """Decode the first frame into an upright 8-bit RGB image; `background` (0..255) shows through
    transparent pixels.

    Raises ImageNotFoundError where no file is, ImageRefusedError for what is too large, too costly
    or of no known kind, ImageError for anything else that can't be decoded wholly, MachineError
    where memory or file handles run out.
    """
    if _decoder is not None and is_encoded(source):
        return _decoder.image(source, background)
    return open_part(source, background)[0]


def is_encoded(source: ImageSource) -> bool:
    """Whether it is a file, or the bytes of one, rather than pixels."""
    return not isinstance(source, Image.Image | np.ndarray | PreparedImage)


def open_part(
    source: ImageSource,
    background: RGB8,
    reduction: Reduction | None = None,
    *,
    name: str = "",
    limits: ImageLimits = NO_LIMITS,
) -> tuple[Image.Image, Box]:
    """Return the image, and which part of it is the picture: all of it, but for a fraction of a
    pixel where it was decoded smaller.

    `name`: of the image in messages, if not the source's own.
    """
    name = name or source_name(source)
    try:
        decoded, (width, height) = _decode(source, name, reduction, limits)
        upright = _upright(decoded)
        if upright.size != decoded.size:
            width, height = height, width
        return _to_rgb(upright, background, name), (0, 0, width, height)
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
        return _checked(source, name).copy()
    except (ImageError, MachineError):
        raise
    except Exception as error:
        raise image_error(error, source, name) from error


def image_error(error: Exception, source: ImageSource, name: str) -> ImageError | MachineError:
    """What an exception means that reading or decoding an image raised."""
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


class Preprocessor:
    """ImageSpec → a function from an image to pixel_values. Stateless, so safe on any number of
    threads.
    """

    def __init__(self, spec: ImageSpec, decoder: Decoder | None = None) -> None:
        """`decoder`: who decodes in place of this process, or of the one
        that `decoded_by` names.
        """
        self.spec = spec
        self._decoder = decoder
        self._scale, self._offset = _affine(spec.mean, spec.std)  # both (3, 1, 1)

    def __call__(
        self, source: ImageSource, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Anything `open_image` takes → float32 (3, size, size), written into `out` where given."""
        # (S, S, 3), uint8
        square = (
            source.pixels if isinstance(source, PreparedImage) else np.asarray(self.picture(source))
        )
        pixels = square.transpose(2, 0, 1)  # (3, S, S)
        out = np.empty(pixels.shape, np.float32) if out is None else out
        np.multiply(pixels, self._scale, out=out)
        out += self._offset
        return out

    def levels(self, pixel_values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(3, S, S) that this has made → (S, S, 3): the picture that it was made of."""
        pixels = (pixel_values.astype(np.float64) - self._offset) / self._scale
        return np.rint(pixels).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)

    def picture(self, source: ImageSource) -> Image.Image:
        """Anything `open_image` takes → RGB (size, size): what the tower sees, before it is
        normalised.
        """
        decoder = self._decoder or _decoder
        if decoder is not None and is_encoded(source):
            return decoder.picture(self.spec, source)
        return self.local_picture(source)

    def local_picture(
        self, source: ImageSource, *, name: str = "", limits: ImageLimits = NO_LIMITS
    ) -> Image.Image:
        """The same, decoded by this process; `name`: of the image in messages, if not the source's
        own.
        """
        if isinstance(source, PreparedImage):
            return Image.fromarray(source.pixels)
        return self.resize(
            *open_part(source, self.spec.background, self.reduction, name=name, limits=limits)
        )

    def reduction(self, size: tuple[int, int]) -> int:
        """How many times smaller a JPEG of this size is decoded, 1, 2, 4 or 8: at least `_OVER`
        times the resolution that is needed remains.

        A JPEG's own coefficients make the smaller picture, at a half to a quarter of the price;
        what comes out differs by a few levels, see the README.
        """
        if max(size) > _LONG * min(size):
            return 1
        ratio = (
            max(size) / self.spec.size
            if self.spec.mode == "longest"
            else min(size) / self.spec.resize_to
        )
        return max(times for times in (1, 2, 4, 8) if times == 1 or times * _OVER <= ratio)

    def resize(self, image: Image.Image, box: Box | None = None) -> Image.Image:
        """RGB image of any size → (size, size); `box`: which part of it is the picture,
        if not all.
        """
        box = box or (0, 0, *image.size)
        if self.spec.mode == "squash":
            return self._crop(
                self._scale_to(image, (self.spec.resize_to, self.spec.resize_to), box)
            )
        return (
            self._shortest(image, box)
            if self.spec.mode == "shortest"
            else self._longest(image, box)
        )

    def _scale_to(self, image: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
        """`box` of the image → `size`, rows before columns for HF's processors, which resize
        tensors in that order.

        Pillow chose the same order until 12; from 13 on it takes the cheaper one, and upstream
        transforms of Pillow images with it. The order moves a few pixels beside saturated edges by
        up to a dozen levels.
        """
        kind, (left, top, right, bottom) = _FILTERS[self.spec.interpolation], box
        if self.spec.crop_rounding == "floor":  # what tells HF's processors apart
            image = image.resize((size[0], image.height), kind, (left, 0, right, image.height))
            left = 0
            right = size[0]
        return image.resize(size, kind, (left, top, right, bottom))

    def _shortest(self, image: Image.Image, box: Box) -> Image.Image:
        """Shorter side to `resize`, longer side rounded down as torchvision
        does, centre cropped.
        """
        short = min(box[2:])
        side = self.spec.size
        width, height = (int(self.spec.resize_to * length / short) for length in box[2:])
        left = self._offset_of(width - side)
        top = self._offset_of(height - side)
        if max(image.size) > _LONG * short and left >= 0 and top >= 0:
            return self._resize_part(image, (width, height), (left, top))
        if image.size != (width, height):
            image = self._scale_to(image, (width, height), box)
        return self._crop(image)

    def _crop(self, image: Image.Image) -> Image.Image:
        """The centre, (size, size)."""
        side = self.spec.size
        left, top = (self._offset_of(length - side) for length in image.size)
        return (
            image
            if image.size == (side, side)
            else image.crop((left, top, left + side, top + side))
        )

    def _offset_of(self, rest: int) -> int:
        """Pixels left over → where the crop starts; Python's round is torchvision's:
        half to even.
        """
        return rest // 2 if self.spec.crop_rounding == "floor" else round(rest / 2)

    def _resize_part(
        self, image: Image.Image, full: tuple[int, int], corner: tuple[int, int]
    ) -> Image.Image:
        """What resizing to `full` and cropping would give, within one level: a 1 x 30,000 strip
        never becomes 4.5 GB of pixels.
        """
        (x, y), side = (
            (whole / scaled for whole, scaled in zip(image.size, full, strict=True)),
            self.spec.size,
        )
        left = corner[0] * x
        top = corner[1] * y
        right = min(left + side * x, image.width)
        bottom = min(top + side * y, image.height)
        # pixels beyond the box that the filter looks at
        reach = [_REACH * max(scale, 1) for scale in (x, y)]
        x0 = max(0, int(left - reach[0]))
        y0 = max(0, int(top - reach[1]))
        x1 = min(image.width, int(right + reach[0]) + 1)
        y1 = min(image.height, int(bottom + reach[1]) + 1)
        return self._scale_to(
            image.crop((x0, y0, x1, y1)),
            (side, side),
            (left - x0, top - y0, right - x0, bottom - y0),
        )

    def _longest(self, image: Image.Image, box: Box) -> Image.Image:
        """Longer side to `size`, the rest filled: floor of the padding left and above."""
        side = self.spec.size
        ratio = max(box) / side
        width, height = (max(1, round(length / ratio)) for length in box[2:])
        canvas = Image.new("RGB", (side, side), self.spec.fill)
        canvas.paste(
            self._scale_to(image, (width, height), box), ((side - width) // 2, (side - height) // 2)
        )
        return canvas


def _affine(mean: RGB, std: RGB) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(level / 255 - mean) / std as level · scale + offset."""
    deviation = np.array(std, np.float64).reshape(3, 1, 1)
    scale = 1 / (255 * deviation)
    offset = -np.array(mean, np.float64).reshape(3, 1, 1) / deviation
    return scale.astype(np.float32), offset.astype(np.float32)


def source_name(source: ImageSource) -> str:
    """What an image is called in messages."""
    if isinstance(source, str | os.PathLike | Remote):
        return f"image '{source}'"
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
    """Any source → a loaded Pillow image of any mode, and how large the picture is
    in it, pixels.
    """
    if isinstance(source, Image.Image):
        _checked(source, name).load()  # a TIFF turns itself upright while it loads
        return source, source.size
    if isinstance(source, np.ndarray):
        image = _from_array(source, name)
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
    """An image's file, opened, or its object, fetched. ImageNotFoundError where none is; ImageError
    for an address, a folder, a pipe or what may not be read; MachineError where file handles run
    out. What may pass is an OSError still, for `retried`.
    """
    if not isinstance(path, (str, os.PathLike, Remote)):  # an int would be a file descriptor
        raise images.no_image(path)
    name = source_name(path)
    if isinstance(path, str) and is_url(path):
        raise ImageError(
            f"{name} is an address; mismatch fetches nothing: download it first and give its path"
        )
    try:
        if isinstance(path, Remote):
            return io.BytesIO(_fetched(path, name))
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait for ever
            raise ImageError(
                f"{name} is a folder or a device, not a file; check the row's image_path"
            )
        return open_once(path)
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


def _fetched(place: Remote, name: str) -> bytes:
    """By one request, which asks for no more than a picture of as many pixels as are allowed takes
    without compression.
    """
    most = 2**63 - 2 if Image.MAX_IMAGE_PIXELS is None else _PLAIN * Image.MAX_IMAGE_PIXELS
    data = place.read(0, most + 1)
    if len(data) > most:
        raise ImageError(
            f"{name} has more than {most:,} bytes; make it smaller, or raise"
            " PIL.Image.MAX_IMAGE_PIXELS if you trust its source"
        )
    return data


def _load(
    file: IO[bytes], name: str, reduction: Reduction | None, limits: ImageLimits
) -> tuple[Image.Image, tuple[float, float]]:
    check_structure(file, name)
    image = _identify(file, limits.formats)
    if image is None and not file.seek(0, os.SEEK_END):
        raise ImageRefusedError(f"{name} is empty (0 bytes); replace the file or drop the row")
    if image is None and limits.formats:
        raise ImageRefusedError(
            f"{name} is of no known format; one of {', '.join(limits.formats)} is needed"
        )
    if image is None:
        raise ImageRefusedError(
            f"{name} is not an image in a format that Pillow reads; replace the file or drop"
            " the row"
        )
    width, height = _checked(image, name, limits.max_pixels).size
    check_decoder(image, name)
    times = reduction((width, height)) if reduction is not None and image.format == "JPEG" else 1
    if (width % times or height % times) and _orientation(image) in _TURNS:
        times = 1  # the fraction of a pixel would come to lie at another edge
    if times > 1:
        image.draft(image.mode, (width // times, height // times))
    image.load()
    return image, (image.size if times == 1 else (width / times, height / times))


def _identify(file: IO[bytes], formats: Collection[str]) -> Image.Image | None:
    """Image.open without its size warning, which only a process-wide filter could keep from leaking
    out of a thread; and without the file's name, by which Pillow would map a bitmap into memory:
    one that somebody cuts short meanwhile ends the process by SIGBUS.
    """
    prefix = file.read(16)
    if formats:
        Image.init()
    for name in formats or _formats():
        if name not in Image.OPEN:  # Pillow was built without it
            continue
        factory, accepts = Image.OPEN[name]
        try:
            verdict = accepts is None or accepts(prefix)
            # a str says which library Pillow was built without
            if verdict and not isinstance(verdict, str):
                file.seek(0)
                return factory(file, "")
        # what Image.open takes for "another format"
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    return None


def _formats() -> Iterator[str]:
    """Names of Pillow's formats, the common ones first; the rest is imported only when none of
    those fits.
    """
    Image.preinit()
    common = [name for name in list(Image.OPEN) if name not in _REFUSED_FORMATS]
    yield from common
    Image.init()
    yield from (
        name for name in list(Image.OPEN) if name not in _REFUSED_FORMATS and name not in common
    )


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


def _from_array(array: NDArray[Any], name: str) -> Image.Image:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4); bool, uint8 or uint16."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise ImageError(
            f"{name} is an array of shape {array.shape}; (height, width), or that and 3 or 4"
            " channels, is needed"
        )
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        array = _to_8_bits(array)
    if array.dtype != np.uint8:
        raise ImageError(
            f"{name} is an array of {array.dtype}; uint8 (0..255), uint16 or bool is needed"
        )
    if 0 in array.shape:
        raise ImageError(f"{name} has no pixels (shape {array.shape})")
    return _checked(Image.fromarray(np.ascontiguousarray(array)), name)


def _to_8_bits(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """0..65535 → 0..255, to the nearest; Pillow's own conversion would saturate."""
    return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF (or XMP) orientation says; without a mark that would turn it again."""
    turn = _TURNS.get(_orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    for key in ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"):
        turned.info.pop(key, None)
    return turned


def _orientation(image: Image.Image) -> int:
    if is_costly_exif(image.info.get("exif") or b""):
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - damaged EXIF says nothing, and the picture itself is whole
        return 1


def _to_rgb(image: Image.Image, background: RGB8, name: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = _from_integers(image, name)
    if image.mode == "F":
        raise ImageError(
            f"{name} has floating-point pixels, whose range is unknown; convert it to 8 bits"
        )
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_integers(image: Image.Image, name: str) -> Image.Image:
    """Modes I;16 and I (as Pillow reads 16-bit files) → L."""
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 65535:
        raise ImageError(
            f"{name} has pixels from {levels.min()} to {levels.max()}; convert it to 8 or 16 bits"
        )
    return Image.fromarray(_to_8_bits(levels))
