"""One look at each image of an audit: whether it can be decoded, its fingerprint, and what is odd
about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mismatch.colour_profiles import embedded_profile, profile_problem
from mismatch.data.audit.findings import Finding, in_lines
from mismatch.data.audit.placeholders import emptiness, is_transparent
from mismatch.data.embedded.containers import open_encoded
from mismatch.data.near_duplicates import Fingerprint, fingerprint
from mismatch.errors import InputError, without_traceback
from mismatch.io.remote import is_url

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Look", "Seen", "oddities", "oddity_findings"]

USUAL_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "YCbCr"}  # Pillow's names
LONG = 4  # long side over short side, from where on a crop of the centre loses three quarters
SMALL = 32  # pixels, shorter side
KEPT = 50  # lines in a report
LEAST_USUAL = 10  # drawn pictures, and half of all: a set of drawings has no placeholders
ODDITIES = {  # in the order of a report; one image, several
    "transparent": (
        "is fully transparent",
        "are fully transparent",
        "a model sees nothing but the background",
    ),
    "blank": (
        "is of a single colour",
        "are of a single colour",
        "there is nothing to see; drop such rows, or find their pictures",
    ),
    "words": (
        'is drawn words on a plain ground, as "image not available" is',
        'are drawn words on a plain ground, as "image not available" is',
        "look whether it is a picture of anything",
    ),
    "animated": (
        "holds several frames or pages",
        "hold several frames or pages",
        "only the first one is looked at",
    ),
    "mode": (
        "is neither RGB nor grey",
        "are neither RGB nor grey",
        "it is converted to 8-bit RGB, which may shift colours",
    ),
    "aspect": (
        f"is over {LONG} times as long as wide",
        f"are over {LONG} times as long as wide",
        f"a crop of the centre sees less than 1/{LONG} of it",
    ),
    "small": (
        f"is under {SMALL} pixels on a side",
        f"are under {SMALL} pixels on a side",
        "there is little to see, as in a placeholder",
    ),
    "colour_profile": (
        "has a colour profile that can't be used",
        "have colour profiles that can't be used",
        "its colours are taken for sRGB's",
    ),
}


class Seen(NamedTuple):
    """What was found of one image."""

    error: InputError | None = None  # why it can't be read
    print: Fingerprint | None = None
    odd: tuple[str, ...] = ()  # of ODDITIES


class Look:
    """Decodes an image, looks for what is odd about its file, and takes its fingerprint if that is
    wanted.
    """

    def __init__(self, check: Callable[..., Image], *, prints: bool) -> None:
        """Take `check`, which decodes a path's image or raises InputError; the colour behind a
        transparent one may be its second argument.
        """
        self.check = check
        self.prints = prints

    def __call__(self, path: str) -> Seen:
        try:
            image = self.check(path if is_url(path) else Path(path))
            odd = (*self._lacks(path, image), *oddities(path))
        except InputError as error:
            return Seen(without_traceback(error))
        return Seen(None, fingerprint(image) if self.prints else None, odd)

    def _lacks(self, path: str, image: Image) -> tuple[str, ...]:
        """Return what there is not to see, or nothing."""
        lack: str = emptiness(image)
        if lack == "blank" and _may_be_transparent(path) and is_transparent(Path(path), self.check):
            lack = "transparent"
        return (lack,) if lack else ()


def _may_be_transparent(path: str) -> bool:
    """Return whether an image's header says that it has transparent parts."""
    from PIL import Image

    try:
        with open_encoded(path) as file, Image.open(file) as image:
            return image.has_transparency_data
    except OSError:  # gone since it was decoded
        return False


def oddities(path: str | Path) -> tuple[str, ...]:
    """Return what is odd about the file of an image that can be decoded: some of animated, mode,
    aspect, small, colour_profile. Only its header is read.
    """
    from PIL import Image

    try:
        with open_encoded(path) as file, Image.open(file) as image:
            short, long = sorted(image.size)
            is_odd = {
                # MPO: a phone's photo with its preview
                "animated": image.format != "MPO" and getattr(image, "is_animated", False),
                "mode": image.mode not in USUAL_MODES,
                "aspect": long > LONG * short,
                "small": short < SMALL,
                "colour_profile": bool(profile_problem(embedded_profile(image))),
            }
    except OSError:  # gone since it was decoded
        return ()
    return tuple(kind for kind, holds in is_odd.items() if holds)


def oddity_findings(
    images: Mapping[str, Sequence[int]], seen: Mapping[str, Seen]
) -> Iterator[Finding]:
    """Yield the oddities of one file: `images` and the lines that name them."""
    for kind, (singular, plural, consequence) in ODDITIES.items():
        odd = [path for path in images if kind in seen[path].odd]
        is_usual = kind == "words" and len(odd) > max(LEAST_USUAL, len(images) / 2)
        if odd and not is_usual:
            lines = sorted(line for path in odd for line in images[path])
            count = f"1 image {singular}" if len(odd) == 1 else f"{len(odd):,} images {plural}"
            yield Finding(
                kind, f"{count} ({in_lines(lines)}): {consequence}", len(lines), lines[:KEPT]
            )
