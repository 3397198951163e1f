"""What an image's numbers mean as colours: its embedded profile, and how they become sRGB's.

A profile is what a file brings: an ICC profile or, of a PNG, gamma and primaries. One that can't be
used is left out, as browsers do, and the numbers are taken for sRGB's.
"""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageCms

__all__ = ["embedded_profile", "profile_problem", "rgb_profile", "to_srgb"]

log = logging.getLogger(__name__)

MAX_BYTES = 4 * 2**20  # of a profile; those of printing presses have up to 3 MB
MAX_TAGS = 100  # of a profile; LittleCMS reads no more
KEPT = 16  # profiles whose conversion is kept ready
SAME = 2  # levels of 255 that a profile may differ from sRGB by and count as sRGB
DARKEST_WHITE = 128  # of 255; a profile that makes white darker is damaged
_HEADER = 128  # bytes
_CLASSES = {b"scnr", b"mntr", b"prtr", b"spac"}  # of devices and spaces; others hold no picture's
_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}  # ICC's word → Pillow's
# tables that are read in steps of any number, each at any place: their time has no bound
_UNBOUNDED = b"D2B"
# a mode without transparency → the one whose numbers it has; RGB for any other
_NUMBERS = {"1": "L", "L": "L", "CMYK": "CMYK", "LAB": "LAB"}
_OF_SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x, y of white and primaries
_NEAR = 0.005  # of these, and of 1 / 2.2: within it a PNG says sRGB in other words
_D50 = (0.9642, 1.0, 0.8249)  # the white of profiles
_BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


def embedded_profile(image: Image.Image) -> bytes:
    """Return the ICC profile that a picture brings. A PNG without one may say gamma and primaries,
    of which one is made. Empty where there is none, or where a PNG says that it is sRGB.
    """
    profile = image.info.get("icc_profile")
    if profile:
        return profile if isinstance(profile, bytes) else b""
    gamma = image.info.get("gamma")
    chromaticity = image.info.get("chromaticity")
    if not gamma or not chromaticity or "srgb" in image.info or "icc_profile" in image.info:
        return b""
    gaps = np.subtract((gamma, *chromaticity), (1 / 2.2, *_OF_SRGB))
    return b"" if np.abs(gaps).max() <= _NEAR else rgb_profile(chromaticity, 1 / gamma)


def to_srgb(image: Image.Image, profile: bytes, name: str = "the image") -> Image.Image:
    """Return a picture without transparency with its colours as sRGB, mode RGB; the picture itself
    where they are so already, or where the profile can't be used or is of another kind of picture.
    """
    if not profile:
        return image
    conversion = _conversion(profile)
    if isinstance(conversion, str):
        log.debug("%s: its colour profile is left out: %s", name, conversion)
        return image
    mode = _NUMBERS.get(image.mode, "RGB")
    if conversion.transform is None or conversion.mode != mode:
        return image
    return conversion.transform.apply(image if image.mode == mode else image.convert(mode))


def profile_problem(profile: bytes) -> str:
    """Return why a profile can't be used; empty where it can."""
    conversion = _conversion(profile) if profile else ""
    return conversion if isinstance(conversion, str) else ""


@dataclass(frozen=True)
class _Conversion:
    """How numbers become sRGB's."""

    mode: str  # that it takes: L, RGB or CMYK
    transform: ImageCms.ImageCmsTransform | None  # None: they are sRGB's


@lru_cache(KEPT)
def _conversion(profile: bytes) -> _Conversion | str:
    """Return what a profile does, or why it can't be used. Making it takes a millisecond, or twenty
    of a printing press.
    """
    try:
        mode = _mode(profile)
        transform = ImageCms.ImageCmsTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)), _srgb(), mode, "RGB"
        )
        probe = _probe(mode)
        colours = np.asarray(transform.apply(probe)).astype(int)  # (1, N, 3)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow raises whatever LittleCMS can't read
        return " ".join(str(error).split()) or type(error).__name__
    if colours[0, -1].min() < DARKEST_WHITE:
        return "it makes white dark"
    if mode == "CMYK":
        return _Conversion(mode, transform)
    gap = np.abs(colours - np.asarray(probe.convert("RGB"))).max()
    return _Conversion(mode, None if gap <= SAME else transform)


def _mode(profile: bytes) -> str:
    """Return the mode of pictures that a profile is of; ValueError for one that isn't read."""
    if not _HEADER + 4 <= len(profile) <= MAX_BYTES:
        raise ValueError(f"it has {len(profile):,} bytes")
    if profile[36:40] != b"acsp":
        raise ValueError("it is no ICC profile")
    if profile[12:16] not in _CLASSES:
        raise ValueError(f"it is of the class {_shown(profile[12:16])}")
    if profile[16:20] not in _MODES:
        raise ValueError(f"it is of the colour space {_shown(profile[16:20])}")
    (count,) = struct.unpack(">I", profile[_HEADER : _HEADER + 4])
    if count > MAX_TAGS:
        raise ValueError(f"it has {count:,} tags")
    table = profile[_HEADER + 4 :][: 12 * count]
    if any(table[place : place + 3] == _UNBOUNDED for place in range(0, len(table), 12)):
        raise ValueError("it has tables of any number of steps")
    return _MODES[profile[16:20]]


def _shown(word: bytes) -> str:
    return repr(word.decode("latin-1").strip())


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _probe(mode: str) -> Image.Image:
    """Return a picture of a line with colours from all over the range; the last one is white."""
    if mode == "CMYK":
        return Image.new("CMYK", (1, 1))
    greys = np.arange(256, dtype=np.uint8)
    if mode == "L":
        return Image.fromarray(greys[None])
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    colours = np.concatenate([grid.reshape(-1, 3), np.repeat(greys[:, None], 3, axis=1)])  # (N, 3)
    return Image.fromarray(colours[None])


def rgb_profile(chromaticity: Sequence[float], gamma: float) -> bytes:
    """Return an ICC profile of a colour space; empty where there is none with such numbers.

    `chromaticity`: x and y of white, red, green and blue; `gamma`: exponent from a number on 0..1
    to light, as in 2.2.
    """
    xy = np.asarray(chromaticity, np.float64).reshape(4, 2)
    if not ((xy >= 0).all() and (xy[:, 1] > 0).all() and xy.max() <= 1 and 0.1 <= gamma <= 10):
        return b""
    light = np.stack([xy[:, 0], xy[:, 1], 1 - xy.sum(axis=1)]) / xy[:, 1]  # (3, 4): X, Y, Z
    white = light[:, 0]
    primaries = light[:, 1:]
    cone = np.array(_BRADFORD)
    try:
        amounts = np.linalg.solve(primaries, white)  # (3,)
        adapted = np.linalg.solve(cone, np.diag(cone @ _D50 / (cone @ white)) @ cone)
    except np.linalg.LinAlgError:
        return b""
    colorants = adapted @ (primaries * amounts)  # (3, 3): a column each of red, green, blue
    if not np.abs(colorants).max() < 4:  # NaN too
        return b""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {b"wtpt": _xyz(_D50)}
    for letter, column in zip((b"r", b"g", b"b"), colorants.T, strict=True):
        tags[letter + b"XYZ"] = _xyz(column)
        tags[letter + b"TRC"] = curve
    return _icc(tags)


def _xyz(values: Sequence[float] | np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


def _fixed(values: Sequence[float] | np.ndarray) -> bytes:
    """Return numbers as a profile writes them: 16 bits before and 16 behind the point."""
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)


def _icc(tags: dict[bytes, bytes]) -> bytes:
    """Return the profile of a screen with these tags, by version 2 of the format."""
    offset = _HEADER + 4 + 12 * len(tags)
    table = struct.pack(">I", len(tags))
    body = b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    head = struct.pack(">I4xI", offset + len(body), 0x02100000) + b"mntrRGB XYZ "
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(_D50)
    return head.ljust(_HEADER, b"\0") + table + body
