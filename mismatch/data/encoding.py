"""The encoding of files of text: UTF-8, or the one that a user names. A guess is only ever shown."""

from __future__ import annotations

import codecs
import io
from collections.abc import Sequence
from encodings.aliases import aliases
from typing import IO

from mismatch.errors import InputError
from mismatch.io.text import did_you_mean

__all__ = ["Utf8Bytes", "check_encoding", "codec_name", "guess_encoding", "is_utf8"]

BLOCK = 2**16  # characters that are converted at a time
ASCII = "image_path,text\n"  # what every encoding of a table can say
WRONG = "wrong-bytes"  # name of the error handler below
# those that programs for spreadsheets and databases write, of each script the usual ones
GUESSED: Sequence[str] = (
    *("gb18030", "big5hkscs", "cp932", "euc_jp", "cp949"),
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258"),
    *("cp874", "koi8_r", "mac_roman"),
)


def check_encoding(name: object) -> None:
    """Raise InputError for what names no encoding of text."""
    try:
        if isinstance(name, str) and ASCII.encode(name).decode(name) == ASCII:
            return
    except (LookupError, ValueError):  # not known; not one of text, or not able to say that
        pass
    hint = did_you_mean(name, aliases) if isinstance(name, str) else ""
    raise InputError(
        f"`encoding` is {name!r}; the name of an encoding such as 'gb18030', 'shift_jis',"
        f" 'cp1252' or 'utf-16' is needed{hint}"
    )


def codec_name(encoding: str | None) -> str:
    """Return what Python calls an encoding; utf-8 where none is named."""
    name = "utf-8" if encoding is None else codecs.lookup(encoding).name
    return "utf-8" if name == "utf-8-sig" else name


def is_utf8(encoding: str | None) -> bool:
    """Return whether a file needs no conversion."""
    return codec_name(encoding) == "utf-8"


class Utf8Bytes(io.RawIOBase):
    """A file of text in another encoding, as the bytes that it would have in UTF-8.

    Bytes that say nothing in that encoding become 0xff, which says nothing in UTF-8 either.
    """

    def __init__(self, file: IO[bytes], encoding: str, name: object) -> None:
        """Take `name`: what errors call the file."""
        self._text = io.TextIOWrapper(file, encoding, errors=WRONG, newline="")
        self._about = f"{name} can't be read as {encoding}"
        self._waiting = memoryview(b"")  # converted, not yet read
        self._position = 0  # bytes of UTF-8

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as a block goes, and return how far; 0 at the end."""
        if not self._waiting:
            self._waiting = memoryview(self._block())
        part = self._waiting[: len(buffer)]
        buffer[: len(part)] = part
        self._waiting = self._waiting[len(part) :]
        self._position += len(part)
        return len(part)

    def _block(self) -> bytes:
        try:
            return self._text.read(BLOCK).encode("utf-8", WRONG)
        except UnicodeError as error:  # no mark at the beginning of UTF-16
            raise InputError(f"{self._about}: {error}; pass another `encoding`") from error

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to the beginning, or stay: nowhere else."""
        if (offset, whence) == (0, io.SEEK_CUR):
            return self._position
        if (offset, whence) != (0, io.SEEK_SET):
            raise io.UnsupportedOperation("only the beginning can be found again")
        self._text.seek(0)
        self._waiting = memoryview(b"")
        self._position = 0
        return 0

    def close(self) -> None:
        self._text.close()
        super().close()


def _wrong_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """Stand for what can't be decoded by half of a character, and for that by a byte."""
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    if isinstance(error, UnicodeEncodeError):
        return b"\xff" * (error.end - error.start), error.end
    raise error


codecs.register_error(WRONG, _wrong_bytes)


def guess_encoding(sample: bytes) -> str | None:
    """Return which encoding lines that are not UTF-8 are probably in; None where nothing fits."""
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=list(GUESSED), preemptive_behaviour=False).best()
    return None if best is None else str(best.encoding)
