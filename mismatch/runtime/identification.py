"""Which of the formats that are read a file has: Pillow's, and HEIC by pillow-heif."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import IO

from PIL import Image

from mismatch.runtime.foreign_formats import heif_opener, is_heif

__all__ = ["identify"]

REFUSED_FORMATS = {  # besides what else Pillow reads
    "EPS",  # Pillow runs Ghostscript to read it
    "FITS",  # may unpack to any size
    "FPX",
    "IPTC",
    "MIC",  # these three open a picture within a picture
}
HEIF = "HEIF"  # what pillow-heif calls its format


def identify(file: IO[bytes], formats: Collection[str]) -> Image.Image | None:
    """Open as Image.open, without its size warning, which only a process-wide filter could keep
    from leaking out of a thread. It goes without the file's name too, by which Pillow would map a
    bitmap into memory. One that somebody cuts short meanwhile ends the process by SIGBUS.
    """
    prefix = file.read(16)
    if formats:
        Image.init()
    for name in formats or _formats():
        if name == HEIF and name not in Image.OPEN:
            return _identify_heif(file, prefix)
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
    return None if formats else _identify_heif(file, prefix)


def _identify_heif(file: IO[bytes], prefix: bytes) -> Image.Image | None:
    """Open HEIC, where pillow-heif is installed. Nothing is decoded yet, and libheif has bounds of
    its own for what a file may name.
    """
    opener = heif_opener() if is_heif(prefix) else None
    if opener is None:
        return None
    file.seek(0)
    try:
        image: Image.Image = opener(file, "")
    except SyntaxError:
        return None
    return image


def _formats() -> Iterator[str]:
    """Yield names of Pillow's formats, the common ones first; the rest is imported only when none
    of those fits.
    """
    Image.preinit()
    common = [name for name in list(Image.OPEN) if name not in REFUSED_FORMATS]
    yield from common
    Image.init()
    yield from (
        name for name in list(Image.OPEN) if name not in REFUSED_FORMATS and name not in common
    )
