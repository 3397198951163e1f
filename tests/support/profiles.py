"""Colour profiles as files bring them, and colours by the spaces' own formulas."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from mismatch.colour_profiles import rgb_profile

__all__ = [
    "ADOBE",
    "CMYK",
    "GREY",
    "P3",
    "PROPHOTO",
    "SPACES",
    "SRGB",
    "cmyk_profile",
    "grey_profile",
    "icc",
    "numbers_in",
]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
D65 = (0.3127, 0.3290)
D50 = (0.3457, 0.3585)
# name → x and y of white, red, green, blue; gamma
SPACES = {
    "Adobe RGB": ((*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 2.19921875),
    "ProPhoto": ((*D50, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), 1.8),
    "Display P3, gamma 2.2": ((*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06), 2.19921875),
    "linear": ((*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06), 1.0),
}
ADOBE, PROPHOTO, P3 = (rgb_profile(*SPACES[name]) for name in list(SPACES)[:3])
# XYZ of D65 → of D50 (Bradford), and sRGB's light → XYZ of D65, as their standards have them
TO_D50 = np.array(
    [
        [1.0478112, 0.0228866, -0.0501270],
        [0.0295424, 0.9904844, -0.0170491],
        [-0.0092345, 0.0150436, 0.7521316],
    ]
)
FROM_SRGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def numbers_in(space: str, colours: Sequence[tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Return (1, N, 3): the numbers that a space has for colours given as sRGB's, 0..255."""
    chromaticity, gamma = SPACES[space]
    levels = np.array(colours) / 255  # (N, 3)
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    xyz = light @ FROM_SRGB.T
    if chromaticity[:2] == D50:
        xyz = xyz @ TO_D50.T
    x, y = np.array(chromaticity).reshape(4, 2).T
    columns = np.stack([x / y, np.ones(4), (1 - x - y) / y])  # (3, 4): white, red, green, blue
    amounts = np.linalg.solve(columns[:, 1:], columns[:, 0])
    own = np.linalg.solve(columns[:, 1:] * amounts, xyz.T).T  # (N, 3)
    return np.rint(own.clip(0, 1) ** (1 / gamma) * 255).astype(np.uint8)[None]


def icc(
    tags: Mapping[bytes, bytes],
    *,
    space: bytes = b"RGB ",
    connection: bytes = b"XYZ ",
    kind: bytes = b"mntr",
) -> bytes:
    """Return an ICC profile with these tags, each with its type's signature."""
    offset = 132 + 12 * len(tags)
    table = struct.pack(">I", len(tags))
    body = b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data.ljust(-len(data) % 4 + len(data), b"\0")
    head = struct.pack(">I4xI", offset + len(body), 0x02400000) + kind + space + connection
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)  # D50
    return head.ljust(128, b"\0") + table + body


def grey_profile(gamma: float = 1.0) -> bytes:
    """Return the profile of grey levels with a gamma."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma))
    return icc({b"wtpt": white, b"kTRC": curve}, space=b"GRAY")


def cmyk_profile() -> bytes:
    """Return the profile of inks that are paler than Pillow takes them for: all of one leaves a
    lightness of 60 of 100 and no colour.
    """
    lab = bytearray()
    for corner in range(16):
        inks = bin(corner).count("1")
        lab += bytes([max(0, round(255 * (1 - 0.4 * inks))), 128, 128])
    unit = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unit + ramp * 4 + bytes(lab) + ramp * 3
    return icc({b"A2B0": table}, space=b"CMYK", connection=b"Lab ", kind=b"prtr")


GREY = grey_profile()
CMYK = cmyk_profile()
