"""Images become pixel_values: the only place where that happens, in training and in production."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mismatch.runtime.open_image import (
    NO_LIMITS,
    RGB8,
    Box,
    ImageLimits,
    ImageSource,
    PreparedImage,
    image_error,
    is_encoded,
    open_image_file,
    open_part,
    own_pixels,
    source_name,
)
from mismatch.specs import RGB, ImageSpec

__all__ = [
    "RGB8",
    "Decoder",
    "ImageLimits",
    "ImageSource",
    "PreparedImage",
    "Preprocessor",
    "decoded_by",
    "image_error",
    "open_image",
    "open_image_file",
    "open_part",
    "own_pixels",
    "source_name",
]

WHITE = (255, 255, 255)
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_REACH = 3  # lanczos, the widest filter, looks 3 pixels of the coarser grid to each side
_OVER = 2  # times the resolution that is needed which a JPEG keeps when it is decoded smaller
_LONG = 8  # long side over short side, from where on only the cropped part is resized


class Decoder(Protocol):
    """What decodes in place of this process."""

    def picture(self, spec: ImageSpec, source: ImageSource) -> Image.Image:
        """Return what `Preprocessor(spec).picture` gives, and raise what it raises."""

    def image(self, source: ImageSource, background: RGB8) -> Image.Image:
        """Return what `open_image` gives, and raise what it raises."""


_decoder: Decoder | None = None  # this process's; see `decoded_by`


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
    """Decode the first frame into an upright 8-bit sRGB image; `background` (0..255) shows through
    transparent pixels.

    Raises ImageNotFoundError where no file is, ImageRefusedError for what is too large, too costly
    or of no known kind, ImageError for anything else that can't be decoded wholly, MachineError
    where memory or file handles run out.
    """
    if _decoder is not None and is_encoded(source):
        return _decoder.image(source, background)
    return open_part(source, background)[0]


class Preprocessor:
    """ImageSpec → a function from an image to pixel_values. Stateless, so safe on any number of
    threads.
    """

    def __init__(self, spec: ImageSpec, decoder: Decoder | None = None) -> None:
        """Prepare images as `spec` says. `decoder`: who decodes in place of this process, or of the
        one that `decoded_by` names.
        """
        self.spec = spec
        self._decoder = decoder
        self._scale, self._offset = _affine(spec.mean, spec.std)  # both (3, 1, 1)

    def __call__(
        self, source: ImageSource, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Turn anything `open_image` takes → float32 (3, size, size), written into `out` where
        given.
        """
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
        """Turn (3, S, S) that this has made → (S, S, 3): the picture that it was made of."""
        pixels = (pixel_values.astype(np.float64) - self._offset) / self._scale
        return np.rint(pixels).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)

    def picture(self, source: ImageSource) -> Image.Image:
        """Turn anything `open_image` takes → RGB (size, size): what the tower sees, before it is
        normalised.
        """
        decoder = self._decoder or _decoder
        if decoder is not None and is_encoded(source):
            return decoder.picture(self.spec, source)
        return self.local_picture(source)

    def local_picture(
        self, source: ImageSource, *, name: str = "", limits: ImageLimits = NO_LIMITS
    ) -> Image.Image:
        """Return the same as `picture`, decoded by this process. `name`: of the image in messages,
        if not the source's own.
        """
        if isinstance(source, PreparedImage):
            return Image.fromarray(source.pixels)
        image, box = open_part(
            source,
            self.spec.background,
            self.reduction,
            name=name,
            limits=limits,
            convert_colours=self.spec.colour_profile == "convert",
        )
        return self.resize(image, box)

    def reduction(self, size: tuple[int, int]) -> int:
        """Return how many times smaller a JPEG of this size is decoded, 1, 2, 4 or 8: at least
        `_OVER` times the resolution that is needed remains.

        A JPEG's own coefficients make the smaller picture, at a half to a quarter of the price;
        what comes out differs by a few levels, see One preprocessing on the site.
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
        """Resize an RGB image of any size → (size, size); `box`: which part of it is the picture,
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
        """Scale `box` of the image → `size`, rows before columns for HF's processors, which resize
        tensors in that order.

        Pillow chose the same order until 12; from 13 on it takes the cheaper one, and upstream
        transforms of Pillow images with it. The order moves a few pixels next to saturated edges by
        up to a dozen levels.
        """
        kind = _FILTERS[self.spec.interpolation]
        left, top, right, bottom = box
        if self.spec.crop_rounding == "floor":  # what tells HF's processors apart
            image = image.resize((size[0], image.height), kind, (left, 0, right, image.height))
            left = 0
            right = size[0]
        return image.resize(size, kind, (left, top, right, bottom))

    def _shortest(self, image: Image.Image, box: Box) -> Image.Image:
        """Scale the shorter side to `resize`, the longer side rounded down as torchvision does,
        centre cropped.
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
        """Return the centre, (size, size)."""
        side = self.spec.size
        left, top = (self._offset_of(length - side) for length in image.size)
        return (
            image
            if image.size == (side, side)
            else image.crop((left, top, left + side, top + side))
        )

    def _offset_of(self, rest: int) -> int:
        """Map pixels left over → where the crop starts; Python's round is torchvision's: half to
        even.
        """
        return rest // 2 if self.spec.crop_rounding == "floor" else round(rest / 2)

    def _resize_part(
        self, image: Image.Image, full: tuple[int, int], corner: tuple[int, int]
    ) -> Image.Image:
        """Return what resizing to `full` and cropping would give, within one level. A 1 x 30,000
        strip never becomes 4.5 GB of pixels.
        """
        side = self.spec.size
        x = image.width / full[0]  # pixels of the image a pixel of the result
        y = image.height / full[1]
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
        """Scale the longer side to `size`, the rest filled: floor of the padding left and above."""
        side = self.spec.size
        ratio = max(box) / side
        width, height = (max(1, round(length / ratio)) for length in box[2:])
        canvas = Image.new("RGB", (side, side), self.spec.fill)
        canvas.paste(
            self._scale_to(image, (width, height), box), ((side - width) // 2, (side - height) // 2)
        )
        return canvas


def _affine(mean: RGB, std: RGB) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Write (level / 255 - mean) / std as level · scale + offset."""
    deviation = np.array(std, np.float64).reshape(3, 1, 1)
    scale = 1 / (255 * deviation)
    offset = -np.array(mean, np.float64).reshape(3, 1, 1) / deviation
    return scale.astype(np.float32), offset.astype(np.float32)
