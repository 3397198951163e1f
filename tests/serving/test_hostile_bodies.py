"""Two hundred hostile requests to a real server: each gets an answer of the 4xx kind, or a status
for its pair, and the next good request is answered well.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import socket
import struct
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

import pytest
from PIL import Image

from mismatch.runtime.predictor import Predictor
from tests.support.serving import image, post, server, text64

PNG, JSON = image("red"), "application/json"
GOOD = {"image": text64(PNG), "text": "red"}


class Hostile(NamedTuple):
    """A request as bytes on the line."""

    name: str
    body: bytes
    path: str = "/v1/predict"
    content_type: str = JSON
    head: bytes = b""  # more lines
    length: int | None = None  # said; None: the true one


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, *more: bytes, data: bytes = b"", colour: int = 2, depth: int = 8
) -> bytes:
    """A PNG whose header says what it likes."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(more)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def encoded(kind: str, size: tuple[int, int] = (64, 64), **options: Any) -> bytes:
    held = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(held, kind, **options)
    return held.getvalue()


def images() -> Iterator[tuple[str, bytes]]:
    """Bombs, truncations, lies and polyglots."""
    yield (
        "a bomb of a hundred thousand a side",
        png(100_000, 100_000, data=zlib.compress(b"\0" * 10_000_000)),
    )
    yield (
        "a bomb below Pillow's limit",
        png(5_000, 5_000, data=zlib.compress(b"\0" * 5_000 * 15_001)),
    )
    yield "as large as a header can say", png(2**31 - 1, 2**31 - 1)
    yield "no width", png(0, 10)
    yield "more data than pixels", png(4, 4, data=zlib.compress(b"\0" * 50_000_000))
    yield "no data", png(64, 64)
    yield "data that is no zlib", png(64, 64, data=b"\xff" * 1000)
    yield (
        "a text chunk bomb",
        png(
            4,
            4,
            chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 20_000_000)),
            data=zlib.compress(b"\0" * 52),
        ),
    )
    yield (
        "a profile bomb",
        png(
            4,
            4,
            chunk(b"iCCP", b"k\0\0" + zlib.compress(b"a" * 20_000_000)),
            data=zlib.compress(b"\0" * 52),
        ),
    )
    yield "an unknown depth", png(4, 4, depth=77)
    yield "an unknown colour", png(4, 4, colour=99)
    yield "a wrong checksum", PNG[:20] + b"\0\0\0\0" + PNG[24:]
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        whole = encoded(kind)
        for share in (0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.75, 0.9, 0.97):
            yield f"{kind} cut at {share:.0%}", whole[: int(share * len(whole))]
        yield (
            f"{kind} with its middle zeroed",
            whole[:100] + bytes(len(whole) // 2) + whole[100 + len(whole) // 2 :],
        )
        yield f"{kind} under a page", b"<html><script>alert(1)</script>" + whole
        yield (
            f"{kind} with an archive behind it, cut",
            whole[: len(whole) // 2] + b"PK\x03\x04" + bytes(100),
        )
    yield from {
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n",
        "PDF": b"%PDF-1.7\n",
        "MVG": b"push graphic-context\nimage over 0,0 0,0 'https://example.com/x'\n",
        "a program": b"\x7fELF" + bytes(60),
        "a pickle": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n(S'id'\ntR.",
        "an archive": b"PK\x03\x04" + bytes(60),
        "gzip": gzip.compress(bytes(1000)),
        "PSD": b"8BPS\x00\x01" + bytes(60),
        "ICNS": b"icns\x00\x00\x00\x10" + bytes(60),
        "ICO": b"\x00\x00\x01\x00\x01\x00" + bytes(60),
        "TGA": b"\x00\x00\x02" + bytes(60),
        "PCX": b"\x0a\x05\x01\x08" + bytes(124),
        "FITS": b"SIMPLE  =                    T" + bytes(60),
        "JPEG 2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(60),
        "DDS": b"DDS \x7c\x00\x00\x00" + bytes(120),
        "nothing but zeros": bytes(1000),
        "nothing": b"",
        "one byte": b"\xff",
        "a start of JPEG": b"\xff\xd8\xff",
        "a start of GIF": b"GIF89a",
        "a start of WEBP": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        "TIFF in a circle": b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
        "TIFF of a billion strips": (
            b"II*\x00\x08\x00\x00\x00\x01\x00\x11\x01\x04\x00\xff\xff\xff\x7f\x08\x00\x00\x00\x00\x00\x00\x00"
        ),
    }.items()
    frames = [Image.new("L", (2000, 2000), i) for i in range(40)]
    held = io.BytesIO()
    frames[0].save(held, "GIF", save_all=True, append_images=frames[1:])
    yield "GIF of forty frames, cut", held.getvalue()[:-100][:5000]


def messages() -> Iterator[tuple[str, bytes, str]]:
    """JSON of wrong shapes and types; name, body, path."""
    values = [
        "1",
        "true",
        "null",
        "[]",
        "{}",
        '"\\u0000"',
        "1e400",
        "NaN",
        "-Infinity",
        '["a"]',
        '{"$ref": "#"}',
        '"' + "A" * 400_000 + '"',
    ]
    for place in ("image", "text", "slice_value", "model", "image_url"):
        for value in values:
            others = {
                name: said
                for name, said in (("image", json.dumps(GOOD["image"])), ("text", '"red"'))
                if name != place
            }
            if place == "image_url":
                others.pop("image")
            body = (
                "{"
                + ", ".join(f'"{name}": {said}' for name, said in (others | {place: value}).items())
                + "}"
            )
            if not (place in ("slice_value", "model") and value in ("null", '"\\u0000"')) and not (
                place == "slice_value" and value.startswith('"')
            ):
                yield f"{place} is {value[:20]}", body.encode(), "/v1/predict"
    yield "nested a hundred thousand deep", b'{"image": ' * 100_000, "/v1/predict"
    yield "lists a million deep", b"[" * 1_000_000, "/v1/predict/batch"
    yield (
        "a key twice with an unknown one",
        b'{"text": "red", "text": 1, "__proto__": {}}',
        "/v1/predict",
    )
    yield "UTF-16", json.dumps(GOOD).encode("utf-16"), "/v1/predict"
    yield "not UTF-8", b'{"image": "\xff", "text": "red"}', "/v1/predict"
    yield "lone surrogates", b'{"image": "a", "text": "\\ud800"}', "/v1/predict"
    yield "a key twice", b'{"image": "a", "text": "red", "text": "blue"}', "/v1/predict"
    yield (
        "pairs of nothing",
        b'{"texts": {}, "pairs": [' + b"{}," * 500_000 + b"{}]}",
        "/v1/predict/batch",
    )
    yield (
        "unknown keys",
        b"{" + b",".join(b'"%x":1' % i for i in range(200_000)) + b"}",
        "/v1/predict/batch",
    )
    yield "half a message", json.dumps(GOOD).encode()[:-30], "/v1/explain"
    yield (
        "a hundred thousand pairs",
        json.dumps(
            {"images": {}, "texts": {}, "pairs": [{"image": "a", "text": "b"}] * 100_000}
        ).encode(),
        "/v1/predict/batch",
    )
    yield "a pair of nothing", b'{"images": {}, "texts": {}, "pairs": [{}]}', "/v1/predict/batch"
    yield (
        "names that nobody sent",
        b'{"images": {"a": "x"}, "texts": {"b": "c"}, "pairs": [{"image": "b", "text": "a"}]}',
        "/v1/predict/batch",
    )
    yield "a large number", b'{"image": "a", "text": ' + b"9" * 100_000 + b"}", "/v1/predict"
    yield (
        "base64 of nothing but signs",
        b'{"image": "' + b"=" * 100_000 + b'", "text": "red"}',
        "/v1/predict",
    )
    yield (
        "an address of a file",
        b'{"image_url": "file:///etc/passwd", "text": "red"}',
        "/v1/predict",
    )
    yield (
        "an address inside",
        b'{"image_url": "http://169.254.169.254/latest/meta-data", "text": "red"}',
        "/v1/explain",
    )


def forms() -> Iterator[Hostile]:
    """Bodies that say multipart."""
    kind = "multipart/form-data; boundary=b"
    whole = (
        b'--b\r\ncontent-disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
        + PNG
        + b"\r\n"
    )
    yield Hostile("a form cut in its head", whole[:40], content_type=kind)
    yield Hostile("a form without an end", whole, content_type=kind)
    yield Hostile(
        "a form of a thousand fields",
        b"".join(
            b'--b\r\ncontent-disposition: form-data; name="f%d"\r\n\r\n1\r\n' % i
            for i in range(1000)
        ),
        content_type=kind,
    )
    yield Hostile("a form of a thousand files", whole * 1000, content_type=kind)
    yield Hostile(
        "a part without a name",
        b"--b\r\ncontent-disposition: form-data\r\n\r\n1\r\n--b--\r\n",
        content_type=kind,
    )
    yield Hostile(
        "a part with a head of a megabyte",
        b"--b\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n1\r\n--b--\r\n",
        content_type=kind,
    )
    yield Hostile("an empty boundary", whole, content_type="multipart/form-data; boundary=")
    yield Hostile(
        "a boundary of a megabyte",
        whole,
        content_type="multipart/form-data; boundary=" + "b" * 30_000,
    )
    yield Hostile(
        "a text that is no UTF-8",
        whole + b'--b\r\ncontent-disposition: form-data; name="text"\r\n\r\n\xff\xfe\r\n--b--\r\n',
        content_type=kind,
    )
    for charset in ("no-such-set", "undefined", "idna", "punycode", "latin-1", "utf-16", "rot13"):
        text = b'--b\r\ncontent-disposition: form-data; name="text"\r\n\r\nred\r\n--b--\r\n'
        yield Hostile(
            f"a form in {charset}", whole + text, content_type=f"{kind}; charset={charset}"
        )
    yield Hostile("only ends", b"--b--\r\n" * 1000, content_type=kind)


def lines() -> Iterator[Hostile]:
    """Heads that lie or are too much."""
    body = json.dumps(GOOD).encode()
    yield Hostile("a length of a terabyte", body, length=10**12)
    yield Hostile("a length beyond all bounds", body, length=10**30)
    yield Hostile("a negative length", body, length=-1)
    yield Hostile("less than its length, and then nothing", body[:20], length=21)
    yield Hostile(
        "thousands of heads", body, head=b"".join(b"x-%d: y\r\n" % i for i in range(20_000))
    )
    yield Hostile("a head of a megabyte", body, head=b"x: " + b"y" * 1_000_000 + b"\r\n")
    yield Hostile(
        "a chunked body",
        b"5\r\nhello\r\n0\r\n\r\n",
        head=b"transfer-encoding: chunked\r\n",
        length=None,
    )
    yield Hostile("two lengths", body, head=b"content-length: 3\r\n")
    yield Hostile("a broken line", body, head=b"no colon\r\n")
    yield Hostile(
        "gzip that isn't asked for", gzip.compress(body), head=b"content-encoding: gzip\r\n"
    )
    yield Hostile("a path out of the house", body, path="/v1/../../../../etc/passwd")
    yield Hostile("a path in codes", body, path="/%2e%2e/%2e%2e/etc/passwd%00")
    yield Hostile("an odd path", body, path="/v1/predict/" + "a/" * 5000)
    yield Hostile(
        "an upgrade",
        body,
        head=b"connection: upgrade\r\nupgrade: websocket\r\n",
        path="/v1/nothing",
    )
    yield Hostile(
        "an upgrade before a body", INNER, head=b"connection: upgrade\r\nupgrade: h2c\r\n"
    )
    yield Hostile("a name of another site", body, head=b"host: evil.example\r\n")
    yield Hostile("a page of another site", body, head=b"origin: http://evil\r\n")
    yield Hostile(
        "a kind of content that there isn't",
        body,
        content_type="application/x-java-serialized-object",
    )
    yield Hostile("two requests in one", body[:1], head=b"transfer-encoding: chunked\r\n")


INNER = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"


def corpus() -> list[Hostile]:
    made = [
        Hostile(
            f"image: {name}",
            json.dumps({"image": base64.b64encode(data).decode(), "text": "red"}).encode(),
        )
        for name, data in images()
    ]
    made += [Hostile(f"message: {name}", body, path) for name, body, path in messages()]
    return [*made, *forms(), *lines()]


def ask(port: int, one: Hostile) -> bytes:
    """Whatever comes back until the other side is done; nothing where it hangs up."""
    length = len(one.body) if one.length is None else one.length
    head = (
        f"POST {one.path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type:"
        f" {one.content_type}\r\ncontent-length: {length}\r\n".encode()
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        found = b""
        with suppress(ConnectionError):
            line.sendall(head + one.head + b"\r\n" + one.body)
        with suppress(ConnectionError):
            while piece := line.recv(65536):
                found += piece
    return found


@pytest.mark.slow
def test_two_hundred_hostile_requests_leave_the_service_alive(colour_engine: Any) -> None:
    hostile = corpus()
    assert len(hostile) >= 200
    assert len({one.name for one in hostile}) == len(hostile)
    wrong: list[str] = []
    with server(
        Predictor(colour_engine()),
        deadline=3.0,
        header_deadline=3.0,
        max_body=8 * 2**20,
        max_pixels=20_000_000,
    ) as port:
        for number, one in zip(count(), hostile, strict=False):
            said = ask(port, one)
            status = int(said.split(b" ", 2)[1]) if said.startswith(b"HTTP/1.1 ") else 0
            # an image whose header is right and whose pixels aren't
            unscored = status == 200 and b'"similarity_score":null' in said
            if not (400 <= status < 500 or unscored or status == EXPECTED.get(one.name, 400)):
                wrong.append(f"{one.name}: {said[:300]!r}")
            if any(
                secret in said
                for secret in (b"Traceback", b"/usr/", b"/home/", b"site-packages", b".py")
            ):
                wrong.append(f"{one.name} tells: {said[:300]!r}")
            if number % 10 == 0:
                assert (
                    post(f"http://127.0.0.1:{port}", "/v1/predict", GOOD)["prediction"] == "match"
                ), one.name
        assert post(f"http://127.0.0.1:{port}", "/v1/predict", GOOD)["prediction"] == "match"
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    assert wrong == []
    assert 'status="500"' not in metrics


# 0: hung up, as there is no request to answer; 200: these decode without a fault, so that they are
# what they are
EXPECTED = {
    "thousands of heads": 0,
    "a head of a megabyte": 0,
    "less than its length, and then nothing": 504,
    "image: more data than pixels": 200,
    "image: WEBP with its middle zeroed": 200,
    "image: BMP with its middle zeroed": 200,
    "image: GIF of forty frames, cut": 200,
    'message: text is "\\u0000"': 200,
}


@pytest.mark.parametrize(
    "trailing", [b"PK\x03\x04" + bytes(200), b"<script>alert(1)</script>", bytes(5_000)]
)
def test_what_follows_a_whole_image_is_not_looked_at(colour_engine: Any, trailing: bytes) -> None:
    """A polyglot that is an image is scored as that image."""
    with server(Predictor(colour_engine())) as port:
        assert (
            post(
                f"http://127.0.0.1:{port}", "/v1/predict", GOOD | {"image": text64(PNG + trailing)}
            )["prediction"]
            == "match"
        )
