"""Images of requests: base64 as clients write it, known formats, within limits, decoded elsewhere
or remembered.
"""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mismatch.errors import ImageError, ImageRefusedError
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.preprocess import PreparedImage, Preprocessor
from mismatch.serving import images
from mismatch.serving.configuration import Settings
from mismatch.serving.images import ImageDecoder, from_base64
from mismatch.serving.models import RememberedImage, Served
from mismatch.serving.telemetry import Metrics


def encoded(kind: str, size: tuple[int, int] = (8, 8), **options: Any) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", size, "red").save(held, kind, **options)
    return held.getvalue()


@pytest.fixture(params=["isolated", "in this process"])
def isolated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the system can fork."""
    if request.param != "isolated":
        monkeypatch.setattr(images, "can_isolate", lambda: False)
    return bool(request.param == "isolated")


def prepared(engine: Any, *pictures: bytes, pixels: bool = False) -> list[PreparedImage]:
    """What becomes of each, after a prediction of those before it."""

    async def work() -> list[PreparedImage]:
        settings = Settings("m", max_image=10_000, max_pixels=1_000)
        served, decoder = (
            Served("default", Predictor(engine), settings, Metrics()),
            ImageDecoder(settings),
        )
        served.batcher.start()
        found = []
        try:
            for data in pictures:
                found.append(await decoder.prepared(data, served, "request", pixels=pixels))
                await served.answers([served.row(found[-1], "red", None)])
        finally:
            decoder.close()
            await served.close()
        return found

    return asyncio.run(work())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_usual_formats_become_what_the_tower_sees(
    colour_engine: Any, isolated: bool, kind: str
) -> None:
    data, engine = encoded(kind), colour_engine()
    [found] = prepared(engine, data)
    np.testing.assert_array_equal(
        found.pixels, np.asarray(Preprocessor(engine.image_spec).picture(data))
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"hello", "no known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no known format"),
        (b"GIF89a", "no known format"),
        (encoded("PPM"), "no known format"),
        (encoded("PNG", (100, 100)), "more than 1,000 pixels"),
        (b"\xff\xd8" + b"x" * 20_000, "more than 10,000 bytes"),
    ],
)
def test_others_are_refused(colour_engine: Any, isolated: bool, data: bytes, words: str) -> None:
    with pytest.raises(ImageRefusedError, match=f"^the image (is|has|takes) .*{words}"):
        prepared(colour_engine(), data)


def test_one_that_is_damaged_is_not_refused_but_has_no_score(
    colour_engine: Any, isolated: bool
) -> None:
    with pytest.raises(
        ImageError, match=r"^the image can't be decoded .* damaged or cut short"
    ) as raised:
        prepared(colour_engine(), encoded("JPEG", (30, 30))[:-30])
    assert type(raised.value) is ImageError


def test_one_that_fails_costs_its_time_once(
    colour_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> int:
        asked = []
        settings = Settings("m")
        served, decoder = (
            Served("default", Predictor(colour_engine()), settings, Metrics()),
            ImageDecoder(settings),
        )
        pool = decoder._pool
        assert pool is not None
        real = pool.submit
        monkeypatch.setattr(
            pool, "submit", lambda *args, **options: (asked.append(1), real(*args, **options))[1]
        )
        for _ in range(3):
            with pytest.raises(ImageRefusedError, match="no known format"):
                await decoder.prepared(b"hello", served, 1)
        decoder.close()
        await served.close()
        return len(asked)

    assert asyncio.run(work()) == 1


def test_one_that_is_remembered_is_not_decoded_again(colour_engine: Any) -> None:
    engine, data = colour_engine(), encoded("PNG")
    first, second = prepared(engine, data, data)
    assert not isinstance(first, RememberedImage)
    assert isinstance(second, RememberedImage)
    assert second.digest == first.digest
    assert len(engine.image_batches) == 1
    assert [type(one) for one in prepared(colour_engine(), data, data, pixels=True)] == [
        PreparedImage
    ] * 2, "an explanation needs its pixels"


def test_what_is_remembered_when_it_comes_is_known_when_it_is_scored(colour_engine: Any) -> None:
    async def work() -> None:
        served = Served("default", Predictor(colour_engine()), Settings("m", remember=0), Metrics())
        served.batcher.start()
        remembered = RememberedImage(
            b"digest", np.empty((0, 0, 3), np.uint8), np.array([1, 0, 0], np.float32)
        )
        [answer] = await served.answers([served.row(remembered, "red", None)])
        assert answer.prediction == "match"
        assert served.remembered(b"digest") is None, "nothing is kept"
        await served.close()

    asyncio.run(work())


DATA = bytes(range(256)) * 3
PLAIN = base64.b64encode(DATA).decode()
URL_SAFE = base64.urlsafe_b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.rstrip("="),
        URL_SAFE,
        URL_SAFE.rstrip("="),
        base64.encodebytes(DATA).decode(),
        "\r\n".join(PLAIN[at : at + 64] for at in range(0, len(PLAIN), 64)),
        f"  {PLAIN}\n",
        f"data:image/png;base64,{PLAIN}",
        f"DATA:image/svg+xml;charset=utf-8;BASE64,{URL_SAFE}",
        f"data:;base64,{PLAIN}",
    ],
)
def test_base64_as_clients_write_it(text: str) -> None:
    assert from_base64(text, most=len(DATA)) == DATA


@pytest.mark.parametrize("length", range(5))
def test_base64_of_every_length_may_lack_its_padding(length: int) -> None:
    text = base64.b64encode(DATA[:length]).decode()
    assert from_base64(text, most=10) == from_base64(text.rstrip("="), most=10) == DATA[:length]


@pytest.mark.parametrize(
    "text",
    [
        "????",
        "a",
        "äöü",
        "YW=Jj",
        "data:image/png,plain",
        "data:image/png;base64",
        "YWJj\0YWJj",
        "data:" + ";a" * 50_000,
    ],
)
def test_what_is_no_base64(text: str) -> None:
    with pytest.raises(ImageRefusedError, match=r"base64|bytes"):
        from_base64(text, most=10_000)


def test_base64_of_too_much() -> None:
    for text in (
        base64.b64encode(b"abcdefgh").decode(),
        "data:;base64," + base64.b64encode(bytes(4_000)).decode(),
        " " * 10_000,
    ):
        with pytest.raises(ImageRefusedError, match="more than 3 bytes"):
            from_base64(text, most=3)
