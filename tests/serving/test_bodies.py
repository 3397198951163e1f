"""mismatch.serving.bodies: messages in JSON, of which the first fault ends the reading."""

from __future__ import annotations

import asyncio
import json
import threading
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from mismatch.errors import InputError
from mismatch.serving.bodies import LARGE, MORE, BodyReader, parse_message
from mismatch.serving.messages import BatchQuestion, ExplainQuestion, Question

SIZE = 2**21  # bytes of a hostile body
PER_BYTE = 20  # bytes of memory that one of them may take
MANY = b'{"texts": {}, "pairs": ['
PAIR = {"image": "a", "text": "t"}
BATCH = {"images": {"a": "x"}, "texts": {"t": "y"}, "pairs": [PAIR, PAIR | {"slice_value": "s"}]}


def refused(body: bytes, kind: type[BaseModel] = Question) -> str:
    """What a body is refused with, as 422."""
    with pytest.raises(HTTPException) as error:
        parse_message(body, kind, 256)
    assert error.value.status_code == 422
    return str(error.value.detail)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Question, {"image": "a", "text": 'é\n"\\ \U0001f45c \x00', "slice_value": None}),
        (Question, {"image_url": "http://x.test/a.png", "text": ""}),
        (ExplainQuestion, {"image": "a", "text": "b", "heat_map": False}),
        (BatchQuestion, BATCH),
        (BatchQuestion, BATCH | {"images": {}, "image_urls": {"a": "u"}, "model": "m"}),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_is_right_is_read_as_pydantic_reads_it(
    kind: type[BaseModel], message: Any, indent: int | None, ascii_only: bool
) -> None:
    body = json.dumps(message, indent=indent, ensure_ascii=ascii_only).encode()
    assert parse_message(body, kind, 2) == kind.model_validate_json(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"image": "a"}', "text: Field required"),
        ('{"image": "a", "text": "b", "shape": 1}', "shape: Extra inputs"),
        ('{"image": 7, "text": "b"}', "image: Input should be a valid string"),
        ('{"image": {"a": 1}, "text": "b"}', "image: Input should be a valid string"),
        ('{"image": true, "text": "b"}', "image: Input should be a valid string"),
        ('{"text": "b"}', "one of image and image_url"),
        ('{"text": "a", "text": "b"}', "text: it is there twice"),
        ("[]", "the body: Input should be an object"),
        ("null", "the body: Input should be an object"),
        ('"text"', "the body: Input should be an object"),
    ],
)
def test_the_first_fault_is_named_by_its_place(body: str, words: str) -> None:
    assert words in refused(body.encode())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pairs": []}, "pairs: List should have at least 1"),
        ({"pairs": None}, "pairs: Input should be a valid array"),
        ({"pairs": {}}, "pairs: Input should be a valid array"),
        ({"pairs": [PAIR, {"image": "a"}]}, "pairs.1.text: Field required"),
        ({"pairs": [PAIR, 7]}, "pairs.1: Input should be an object"),
        ({"pairs": [PAIR | {"x": 1}]}, "pairs.0.x: Extra inputs"),
        ({"pairs": [PAIR | {"text": []}]}, "pairs.0.text: Input should be a valid string"),
        ({"texts": {"t": 1}}, "texts.t: Input should be a valid string"),
        ({"texts": {"t": {}}}, "texts.t: Input should be a valid string"),
        ({"images": "a"}, "images: Input should be an object"),
        ({"images": {"n" * 500: 1}}, f"images.{'n' * 80}: "),
    ],
)
def test_the_first_fault_of_a_batch_is_named_by_its_place(change: Any, words: str) -> None:
    assert words in refused(json.dumps(BATCH | change).encode(), BatchQuestion)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"image"',
        b'{"image" "a"}',
        b'{"image": }',
        b'{"image": "a",}',
        b'{"image": "a", "text": "b"',
        b'{"image": "a", "text": "b"} x',
        b'{"image": "a", "text": "b"}{}',
        b'{"image": "a\n", "text": "b"}',
        b'{"image": "\\x", "text": "b"}',
        b'{"image": "\\u12", "text": "b"}',
        b"{'image': 'a'}",
        b'{"image": NaN, "text": "b"}',
        b'{"image": Infinity, "text": "b"}',
        b'{"image": 01, "text": "b"}',
        b'{"image": nul, "text": "b"}',
        b'{"image": truely, "text": "b"}',
        b'{image: "a"}',
        b'\xef\xbb\xbf{"image": "a", "text": "b"}',
        b'{"image": "a", "text": "\xff"}',
        '{"image": "a", "text": "b"}'.encode("utf-16"),
        b'{"image": "a", "text": "\\ud800"}',
        b'{"image": "a", "text": "\\udc00\\ud800"}',
        b'{"\\ud800": "a"}',
        b"\x00",
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    refused(body)


def hostile() -> dict[str, bytes]:
    """Bodies that are costly for a parser that reads all before it judges."""
    return {
        "pairs of nothing": MANY + b"{}," * (SIZE // 3) + b"{}]}",
        "pairs that are numbers": MANY + b"1," * (SIZE // 2) + b"1]}",
        "pairs that are lists": MANY + b"[]," * (SIZE // 3) + b"1]}",
        "unknown keys": b"{" + b",".join(b'"%x":1' % i for i in range(SIZE // 10)) + b"}",
        "texts that are numbers": (
            b'{"texts":{' + b",".join(b'"%x":1' % i for i in range(SIZE // 10))
        ),
        "one key again and again": b'{"texts":{' + b'"a":"b",' * (SIZE // 8),
        "lists in lists": b"[" * SIZE,
        "objects in objects": b'{"texts":' * (SIZE // 9),
        "pairs in pairs": b'{"pairs":[' * (SIZE // 10),
        "a number": b'{"texts":' + b"9" * SIZE + b"}",
        "an exponent": b'{"texts": 1e' + b"9" * SIZE + b"}",
        "blanks": b" " * SIZE,
        "escapes": b'{"texts": "' + b"\\u0041" * (SIZE // 6) + b'"}',
        "an endless string": b'{"model": "' + b"a" * SIZE,
    }


@pytest.mark.parametrize("name", hostile())
def test_a_costly_body_is_given_up_at_its_first_fault(name: str) -> None:
    body = hostile()[name]
    tracemalloc.start()
    try:
        refused(body, BatchQuestion)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < PER_BYTE * len(body)


@pytest.mark.parametrize("place", ["pairs", "texts", "images", "image_urls"])
def test_more_than_can_be_meant_is_not_read_to_its_end(place: str) -> None:
    count = MORE * 2
    many: Any = {f"n{number}": "x" for number in range(count + 1)}
    if place == "pairs":
        many = [PAIR] * (count + 1)
    body = json.dumps(BATCH | {place: many}).encode()
    with pytest.raises(InputError, match=f"more than {count} {place}"):
        parse_message(body[:-2], BatchQuestion, 2)
    assert isinstance(parse_message(body, BatchQuestion, 3), BatchQuestion)


class Sent:
    """A request whose body has come."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def stream(self) -> AsyncIterator[bytes]:
        yield self.body[:10]
        yield self.body[10:]


def test_one_large_body_is_parsed_at_a_time_and_short_ones_at_once() -> None:
    go = threading.Event()
    order: list[int] = []

    def parse(body: bytes) -> int:
        if len(body) >= LARGE:
            go.wait(20)
        order.append(len(body))
        return len(body)

    async def read() -> None:
        reader = BodyReader(8)
        sent: list[Any] = [Sent(bytes(size)) for size in (LARGE, LARGE + 1, LARGE - 1)]
        tasks = [asyncio.create_task(reader.read(one, parse)) for one in sent]
        assert await tasks[2] == LARGE - 1
        await asyncio.sleep(0.05)
        assert order == [LARGE - 1]
        go.set()
        await asyncio.gather(*tasks)
        assert order == [LARGE - 1, LARGE, LARGE + 1]

    asyncio.run(read())
