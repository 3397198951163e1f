"""What reading colour profiles costs: time of decoding with and without, for pictures that have none,
sRGB's, and another space's. The two kinds take turns.

python benchmarks/bench_colours.py --images photos/images
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image, ImageCms

from mismatch.colour_profiles import rgb_profile
from mismatch.runtime.preprocess import Preprocessor
from mismatch.specs import ImageSpec

ADOBE = rgb_profile((0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 2.19921875)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SPEC = ImageSpec(size=224, resize=256, mean=(0.5,) * 3, std=(0.5,) * 3)
PROFILES = {"none": b"", "sRGB": SRGB, "Adobe RGB": ADOBE}


def encoded(image: Image.Image, kind: str, profile: bytes) -> bytes:
    """Return a picture as a file with a profile."""
    options: dict[str, Any] = {"quality": 92} if kind == "JPEG" else {}
    file = io.BytesIO()
    image.save(file, kind, icc_profile=profile, **options)
    return file.getvalue()


def photos(folder: Path | None, count: int) -> list[Image.Image]:
    """Return small photos, or drawn ones where there is no folder."""
    if folder is not None:
        paths = sorted(folder.glob("*.jpg"))
        return [Image.open(path).convert("RGB") for path in islice(paths, count)]
    random = np.random.default_rng(0)
    return [drawn(random, (256, 256)) for _ in range(count)]


def drawn(random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Return a smooth picture with grain."""
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
    grain = random.integers(-6, 7, smooth.shape, dtype=np.int16)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def seconds(decode: Callable[[bytes], Any], files: list[bytes]) -> float:
    """Return the processor time that all files take."""
    began = time.process_time()
    for data in files:
        decode(data)
    return time.process_time() - began


@click.command()
@click.option("--images", type=click.Path(path_type=Path), help="Folder of small photos.")
@click.option("--count", default=200, show_default=True, help="Small photos.")
@click.option("--repeats", default=9, show_default=True, help="Turns, of which the median counts.")
def main(images: Path | None, count: int, repeats: int) -> None:
    """Print a table."""
    random = np.random.default_rng(1)
    small = photos(images, count)
    large = [drawn(random, (4032, 3024)) for _ in range(2)]
    sets = {"small JPEG": (small, "JPEG"), "small PNG": (small, "PNG")}
    sets["JPEG of 12 megapixels"] = (large, "JPEG")
    sets["PNG of 12 megapixels"] = (large[:1], "PNG")
    ways = {way: Preprocessor(replace(SPEC, colour_profile=way)) for way in ("ignore", "convert")}
    print("| pictures | profile | ignored, ms | read, ms | ratio |\n|---|---|---|---|---|")
    for name, (pictures, kind) in sets.items():
        for profile_name, profile in PROFILES.items():
            files = [encoded(picture, kind, profile) for picture in pictures]
            taken: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(repeats + 1):
                for way in list(ways)[:: 1 if turn % 2 else -1]:
                    taken[way].append(seconds(ways[way], files))
            before, after = (1000 * statistics.median(taken[way][1:]) / len(files) for way in ways)
            ratio = statistics.median(
                b / a for a, b in zip(taken["ignore"][1:], taken["convert"][1:], strict=True)
            )
            print(
                f"| {name} | {profile_name} | {before:.2f} | {after:.2f} | {ratio:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
