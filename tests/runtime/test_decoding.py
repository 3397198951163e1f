"""Decoding in processes of its own: the same pixels as in this one, and whatever a picture does
costs that picture alone.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import hostile_pictures as hostile
from mismatch.errors import ImageError, ImageNotFoundError, ImageRefusedError, MachineError
from mismatch.runtime import decoding
from mismatch.runtime.crew import NICENESS
from mismatch.runtime.decoding import DecodingPool
from mismatch.runtime.preprocess import PreparedImage, Preprocessor, decoded_by, open_image
from mismatch.specs import ImageSpec
from tests.support.profiles import ADOBE, CMYK, GREY, SRGB

COSTLY = hostile.jpeg_of_scans(7_000, 64)  # half a second, where all of its pixels are wanted
SPEC = ImageSpec(size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def encoded(kind: str = "PNG", size: tuple[int, int] = (90, 60), seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodingPool]:
    with DecodingPool(workers=2, max_pixels=50_000_000, seconds=0.2) as found:
        yield found


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_the_pixels_are_those_of_this_process(
    pool: DecodingPool, kind: str, mode: str, tmp_path: Path
) -> None:
    spec = ImageSpec(size=32, mean=SPEC.mean, std=SPEC.std, mode=mode)  # type: ignore[arg-type]
    data = encoded(kind, (300, 200))
    path = tmp_path / "a"
    path.write_bytes(data)
    alone, isolated = Preprocessor(spec), Preprocessor(spec, pool)
    for source in (data, path, str(path)):
        np.testing.assert_array_equal(isolated(source), alone(source))
    np.testing.assert_array_equal(pool.image(data, (255, 255, 255)), open_image(data))
    prepared = PreparedImage(b"", pool.submit(data, spec).result())
    np.testing.assert_array_equal(alone(prepared), alone(data))
    np.testing.assert_array_equal(np.asarray(isolated.picture(prepared)), prepared.pixels)


@pytest.mark.parametrize("colours", ["convert", "ignore"])
def test_colours_are_converted_there_as_here(pool: DecodingPool, colours: Any) -> None:
    spec = replace(SPEC, colour_profile=colours)
    levels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    picture = Image.fromarray(levels)
    pictures = [
        (picture, ADOBE),
        (picture.convert("CMYK"), CMYK),
        (picture.convert("L"), GREY),
        (picture, ADOBE[:150]),
        (picture, SRGB),
    ]
    plain = Preprocessor(replace(SPEC, colour_profile="ignore"))
    differ = []
    for image, profile in pictures:
        file = io.BytesIO()
        image.save(file, "TIFF", icc_profile=profile)
        data = file.getvalue()
        shown = Preprocessor(spec, pool)(data)
        np.testing.assert_array_equal(shown, Preprocessor(spec)(data))
        assert pool.image(data, (0, 0, 0)).tobytes() == open_image(data).tobytes()
        differ.append(bool((shown != plain(data)).any()))
    assert differ == ([True] * 3 + [False] * 2 if colours == "convert" else [False] * 5)


def test_pixels_that_are_decoded_already_stay_here(pool: DecodingPool) -> None:
    image = Image.new("RGB", (40, 40), "red")
    with decoded_by(pool):
        np.testing.assert_array_equal(
            Preprocessor(SPEC)(image), Preprocessor(SPEC)(np.asarray(image))
        )
        assert open_image(image).size == (40, 40)


def test_all_of_a_process_may_be_decoded_elsewhere(
    pool: DecodingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    real = pool.submit

    def submit(*args: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        return real(*args, **options)

    monkeypatch.setattr(pool, "submit", submit)
    with decoded_by(pool):
        open_image(encoded())
        Preprocessor(SPEC)(encoded())
    open_image(encoded())
    assert asked == 2


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"", ImageRefusedError, "empty"),
        (b"hello", ImageRefusedError, "not an image in a format"),
        (encoded("JPEG")[:700], ImageError, "damaged or cut short"),
        (hostile.jpeg_of_scans(64, 3_000), ImageRefusedError, "scans"),
        (hostile.png_of_zeros(8_000), ImageRefusedError, "more than 50,000,000 pixels"),
        (COSTLY, ImageError, r"more than 0\.2 seconds of processor time"),
    ],
)
def test_what_is_wrong_with_a_picture(
    pool: DecodingPool, data: bytes, kind: type[ImageError], words: str
) -> None:
    with pytest.raises(kind, match=words) as raised:
        pool.image(data, (255, 255, 255))
    assert type(raised.value) is kind
    assert str(raised.value).startswith("the image given as bytes ")
    assert pool.picture(SPEC, encoded()).size == (32, 32), "the next one is decoded"


def test_a_file_that_is_absent_or_no_file(pool: DecodingPool, tmp_path: Path) -> None:
    with pytest.raises(ImageNotFoundError, match=r"absent\.png"):
        pool.picture(SPEC, tmp_path / "absent.png")
    with pytest.raises(ImageError, match="folder or a device"):
        pool.picture(SPEC, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="folder or a device"):
        pool.image(tmp_path / "pipe", (0, 0, 0))


def test_only_the_formats_that_are_named_are_read() -> None:
    with DecodingPool(workers=1, formats=("PNG", "AVIF")) as pool:
        assert pool.picture(SPEC, encoded("AVIF")).size == (32, 32)
        with pytest.raises(ImageRefusedError, match="no known format; one of PNG, AVIF"):
            pool.picture(SPEC, encoded("GIF"))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "SPARE_BYTES", 0)
    monkeypatch.setattr(decoding, "PIXEL_BYTES", 1)
    with DecodingPool(workers=1, max_pixels=4_000_000) as pool:
        for _ in range(3):
            with pytest.raises(ImageError, match="more memory to decode than its pixels explain"):
                pool.picture(SPEC, hostile.png_of_zeros(2_000))
            assert pool.picture(SPEC, encoded()).size == (32, 32)


def test_costly_pictures_keep_each_other_waiting_and_no_others(pool: DecodingPool) -> None:
    costly = [pool.submit(COSTLY + bytes([number]), None, request=number) for number in range(5)]
    assert pool.submit(encoded(), SPEC, request="good").result().shape == (32, 32, 3)
    assert not all(one.done() for one in costly)
    for one in costly:
        with pytest.raises(ImageError, match="processor time"):
            one.result()


def test_a_large_file_is_no_costly_picture() -> None:
    """It has a lane of its own, in which a moment grows with its size."""
    with DecodingPool(workers=1, max_pixels=50_000_000) as pool:
        costly = [pool.submit(COSTLY + bytes([number]), None, client=number) for number in range(3)]
        photo = encoded("PNG", (900, 700))
        assert len(photo) > decoding.LARGE
        assert pool.submit(photo, SPEC, client="good").result().shape == (32, 32, 3)
        assert not all(one.done() for one in costly)


def test_what_nobody_waits_for_any_more_is_given_up_wherever_it_is() -> None:
    with DecodingPool(workers=1, max_pixels=50_000_000, seconds=600.0) as pool:
        costly = [
            pool.submit(COSTLY + bytes([number]), None, request=number) for number in range(6)
        ]
        time.sleep(0.2)  # one is in the slow lane by now
        for one in costly:
            one.cancel()
        assert costly[-1].cancelled()
        assert pool.submit(hostile.png_of_zeros(5_000), SPEC).result().shape == (
            32,
            32,
            3,
        ), "which takes the slow lane too"


def children(process_id: int) -> list[int]:
    return [
        int(child)
        for child in Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    ]


def ended(process_ids: list[int]) -> bool:
    """Whether they are gone, or wait for the one who started them to notice."""
    for _ in range(100):
        states = [Path(f"/proc/{one}/stat") for one in process_ids]
        if all(
            not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
            for state in states
        ):
            return True
        time.sleep(0.1)
    return False


def nursery_of(pool: DecodingPool) -> int:
    process = pool._nursery._process
    assert process is not None
    return process.pid


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_workers_that_are_killed_cost_no_picture_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # on a busy machine too, each picture stays in the lane where it began
    monkeypatch.setattr(decoding, "FAST_SECONDS", 30.0)
    with DecodingPool(workers=1, max_pixels=50_000_000) as pool:
        pool.picture(SPEC, encoded())
        waiting = pool.submit(COSTLY + bytes(decoding.LARGE), None, name="image 'a'")
        for _ in range(100):
            if not pool._decoding.crew._idle[NICENESS]:  # type: ignore[union-attr]
                break
            time.sleep(0.02)
        for child in children(nursery_of(pool)):
            os.kill(child, signal.SIGKILL)
        assert pool.picture(SPEC, encoded()).size == (32, 32), "though its first worker is dead"
        waiting.result()
        os.kill(nursery_of(pool), signal.SIGKILL)
        assert pool.picture(SPEC, encoded()).size == (32, 32)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_its_processes_hold_no_secrets_and_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISMATCH_SERVE_TOKENS", "a-secret-of-this-process")
    pool = DecodingPool(workers=1)
    pool.picture(SPEC, encoded())
    nursery = nursery_of(pool)
    processes = [nursery, *children(nursery)]
    assert len(processes) > 1
    for one in processes:
        assert b"a-secret" not in Path(f"/proc/{one}/environ").read_bytes()
    pool.close()
    assert ended(processes)
    assert pool.picture(SPEC, encoded()).size == (32, 32), "it starts again"
    pool.close()


def test_closing_does_not_wait_for_costly_pictures() -> None:
    pool = DecodingPool(workers=1, max_pixels=50_000_000, seconds=60.0)
    pictures = [COSTLY + bytes([number]) for number in range(8)]
    waiting = [pool.submit(picture + bytes(decoding.LARGE), None) for picture in pictures]
    time.sleep(0.2)
    pool.close()
    assert all(one.done() for one in waiting)
    assert isinstance(waiting[-1].exception(), MachineError)


KILLED = """
import os, signal, sys
from mismatch.runtime.decoding import DecodingPool
from mismatch.specs import ImageSpec
pool = DecodingPool(workers=1)
pool.picture(ImageSpec(size=8, mean=(0, 0, 0), std=(1, 1, 1)), sys.argv[1])
nursery = pool._nursery._process.pid
with open(f"/proc/{nursery}/task/{nursery}/children") as file:
    print(nursery, file.read(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_they_end_where_their_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "a.png"], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    processes = [int(one) for one in done.stdout.split()]
    assert len(processes) > 1
    assert ended(processes)


FORKED = """
import os, sys
from mismatch.runtime.decoding import DecodingPool
from mismatch.specs import ImageSpec
spec, pool = ImageSpec(size=8, mean=(0, 0, 0), std=(1, 1, 1)), DecodingPool(workers=1)
pool.picture(spec, sys.argv[1])
child = os.fork()
if not child:
    print(pool.picture(spec, sys.argv[1]).size, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(pool.picture(spec, sys.argv[1]).size)
"""


def test_a_forked_process_has_workers_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    done = subprocess.run(
        [sys.executable, "-c", FORKED, tmp_path / "a.png"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split("\n") == ["(8, 8)", "(8, 8)", ""], done.stderr


def test_it_imports_nothing_of_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    (tmp_path / "json.py").write_text("raise SystemExit('imported')")
    program = f"import sys; sys.path[:] = {json.dumps([one for one in sys.path if one])}\n" + FORKED
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, "a.png"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.stdout.startswith("(8, 8)"), done.stderr


def test_systems_that_cannot_fork_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "can_isolate", lambda: False)
    with pytest.raises(MachineError, match="`isolate_decoding`"):
        DecodingPool()


def test_many_threads_share_it(pool: DecodingPool) -> None:
    pictures = [encoded(seed=seed) for seed in range(40)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda data: np.asarray(pool.picture(SPEC, data)), pictures))
    for data, picture in zip(pictures, found, strict=True):
        np.testing.assert_array_equal(picture, np.asarray(Preprocessor(SPEC).picture(data)))
