"""mismatch.serving.forms: forms with one file, of which the first fault ends the reading."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException

from mismatch.serving.forms import parse_form

KIND = "multipart/form-data; boundary=b"
NAMES = ("image", "text", "slice_value", "model")
END = b"--b--\r\n"


def part(disposition: bytes, data: bytes, *more: bytes) -> bytes:
    head = b"".join(
        line + b"\r\n" for line in (b"content-disposition: form-data; " + disposition, *more)
    )
    return b"--b\r\n" + head + b"\r\n" + data + b"\r\n"


IMAGE = part(b'name="image"; filename="a.png"', b"\x89PNG\r\n--c")
TEXT = part(b'name="text"', b"red")


def refused(body: bytes, kind: str = KIND) -> tuple[int, str]:
    with pytest.raises(HTTPException) as error:
        parse_form(body, kind, NAMES, 100)
    return error.value.status_code, str(error.value.detail)


@pytest.mark.parametrize("kind", [KIND, 'multipart/form-data; charset=UTF-8; boundary="b"'])
@pytest.mark.parametrize("end", [END, b"--b--", END + b"an epilogue"])
def test_a_form_is_read_whole(kind: str, end: bytes) -> None:
    form = parse_form(
        b"\r\n" + IMAGE + part(b'name="text"', "é\x00".encode()) + end, kind, NAMES, 100
    )
    assert (form.file, form.fields) == (b"\x89PNG\r\n--c", {"text": "é\x00"})


@pytest.mark.parametrize(
    "charset",
    [
        "undefined",
        "idna",
        "punycode",
        "latin-1",
        "utf-16",
        "utf-7",
        "rot13",
        "zlib",
        "no-such",
        "unicode_escape",
        "mbcs",
        "",
    ],
)
def test_only_utf_8_is_taken(charset: str) -> None:
    assert refused(IMAGE + TEXT + END, f"{KIND}; charset={charset}")[0] == 415
    said = part(
        b'name="text"', "é".encode(), b"content-type: text/plain; charset=" + charset.encode()
    )
    assert refused(IMAGE + said + END)[0] == 415


def test_text_that_is_no_utf_8_is_not_guessed() -> None:
    assert refused(IMAGE + part(b'name="text"', b"\xe9") + END)[0] == 422
    assert refused(IMAGE + part(b'name="te\xe9"', b"e") + END)[0] == 422


@pytest.mark.parametrize("charset", ["iso-2022-jp", "utf-7", "hz", "utf-16", "unknown"])
def test_letters_that_mean_others_in_their_encoding_are_refused(charset: str) -> None:
    """`$B%7%c%D` is Japanese in ISO-2022-JP, and ASCII bytes."""
    head = b"content-type: text/plain; charset=" + charset.encode()
    assert refused(IMAGE + part(b'name="text"', b"$B%7%c%D", head) + END)[0] == 415


@pytest.mark.parametrize("encoding", ["base64", "Quoted-Printable", "x-uuencode"])
def test_a_field_in_a_transfer_encoding_is_refused(encoding: str) -> None:
    head = b"content-transfer-encoding: " + encoding.encode()
    assert refused(IMAGE + part(b'name="text"', b"cmVk", head) + END)[0] == 415
    head = b"content-transfer-encoding: binary"
    plain = IMAGE + part(b'name="text"', b"red", head) + END
    assert parse_form(plain, KIND, NAMES, 100).fields == {"text": "red"}


def test_ascii_text_is_taken_whatever_its_part_is_said_to_be_in() -> None:
    """As Java's clients send it."""
    said = part(b'name="text"', b"red", b"content-type: text/plain; charset=ISO-8859-1")
    assert parse_form(IMAGE + said + END, KIND, NAMES, 100).fields == {"text": "red"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (IMAGE + TEXT, 400),
        (IMAGE + TEXT[:20], 400),
        (b"before\r\n" + IMAGE + TEXT + END, 400),
        (IMAGE + END, 422),
        (TEXT + END, 422),
        (IMAGE + TEXT + TEXT + END, 422),
        (IMAGE + IMAGE + TEXT + END, 422),
        (IMAGE + TEXT + part(b'name="other"', b"x") + END, 422),
        (IMAGE + part(b'name="text"; filename="t"', b"red") + END, 422),
        (part(b'name="image"', b"x") + TEXT + END, 422),
        (part(b"name=\"image\"; filename*=punycode''x", b"x") + TEXT + END, 422),
        (IMAGE + part(b'name="text"', b"r" * 101) + END, 400),
        (IMAGE + part(b'filename="x"', b"r") + END, 400),
        (IMAGE + b"--b\r\n\r\nred\r\n" + END, 400),
        (
            IMAGE
            + part(b'name="text"', b"red", b'content-disposition: form-data; name="model"')
            + END,
            400,
        ),
    ],
)
def test_other_forms_are_refused(body: bytes, status: int) -> None:
    assert refused(body)[0] == status


@pytest.mark.parametrize(
    "body",
    [
        b"--b\r\n\r\n\r\n" * 100_000 + END,
        IMAGE + TEXT * 100_000 + END,
        b"".join(part(b'name="f%d"' % number, b"") for number in range(20_000)) + END,
        b"--b\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n1\r\n" + END,
        b"--b\r\n" + b"y" * 1_000_000 + b": x\r\n\r\n1\r\n" + END,
        b"--b\r\n"
        + b"".join(b"x%d: y\r\n" % number for number in range(100_000))
        + b"\r\n1\r\n"
        + END,
        b"--b\r\ncontent-disposition: form-data; " + b';"\\' * 300_000 + b"\r\n\r\n1\r\n" + END,
        IMAGE + part(b'name="text"', b"\r\n--" * 500_000) + END,
        END * 100_000,
    ],
)
def test_many_parts_and_long_heads_are_given_up(body: bytes) -> None:
    assert 400 <= refused(body)[0] < 500


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'b' * 300}",
        KIND + ';"' * 500,
    ],
)
def test_a_form_needs_a_boundary(kind: str) -> None:
    assert refused(IMAGE + TEXT + END, kind)[0] == 400


@pytest.mark.parametrize("end", [b"-", b"\r", b"--", b""])
def test_boundaries_that_go_on_otherwise_are_given_up(end: bytes) -> None:
    """The parser would take ten seconds for 32 MB of them."""
    head = b'--b\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n'
    status, words = refused(head + (b"\r\n--b" + end) * 4_000_000 + b"\r\n" + END)
    assert (status, "its boundary more than 64 times" in words) == (400, True)
