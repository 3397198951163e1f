"""mismatch.runtime.lazy_pictures: a picture whose file is not read yet is read by one thread."""

from __future__ import annotations

import io
import sys
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from mismatch.runtime.lazy_pictures import reading
from mismatch.runtime.preprocess import Preprocessor
from mismatch.specs import ImageSpec

THREADS = 8
ORIENTATION = 0x0112
PREPROCESSOR = Preprocessor(ImageSpec(size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))


def photo(seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (900, 1200, 3), np.uint8)
    return Image.fromarray(noise)


def encoded(kind: str, seed: int = 0) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    photo(seed).save(file, kind, **({} if kind == "GIF" else {"exif": exif}))
    return file.getvalue()


@pytest.fixture(autouse=True)
def often() -> Iterator[None]:
    """Threads take turns often."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF"])
def test_one_picture_in_several_threads_is_the_same_in_each(kind: str) -> None:
    data = encoded(kind)
    expected = PREPROCESSOR(data)
    for _ in range(3):
        picture = Image.open(io.BytesIO(data))
        with ThreadPoolExecutor(THREADS) as pool:
            results = list(pool.map(PREPROCESSOR, [picture] * THREADS))
        assert all(np.array_equal(result, results[0]) for result in results)
        assert np.abs(results[0] - expected).max() < 0.2


def test_pictures_of_one_archive_are_read_one_behind_the_other() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for seed in range(6):
            data = encoded("PNG", seed)
            member = tarfile.TarInfo(f"{seed}.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    expected = [PREPROCESSOR(encoded("PNG", seed)) for seed in range(6)]
    with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as archive:
        pictures = [Image.open(archive.extractfile(name)) for name in archive.getnames()]  # type: ignore[arg-type]
        with ThreadPoolExecutor(THREADS) as pool:
            results = list(pool.map(PREPROCESSOR, pictures))
    assert all(map(np.array_equal, results, expected))


def test_two_pictures_of_their_own_files_are_read_at_once() -> None:
    pictures = [Image.new("RGB", (2, 2)) for _ in range(200)]
    first = pictures[0]
    second = next(one for one in pictures if (id(one) ^ id(first)) >> 4 & 63)
    entered = threading.Event()

    def enter() -> None:
        with reading(second):
            entered.set()

    with reading(first):
        thread = threading.Thread(target=enter)
        thread.start()
        assert entered.wait(10)
    thread.join()
