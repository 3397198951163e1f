"""The samples of a webdataset archive: members of one stem, which follow one another. Its heads are
read once, its members where they stand.

Read without tarfile, which takes eight times as long for a head, and trusts a member's head for how
much memory its name takes. Nothing is unpacked, and no link is followed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mismatch.data.embedded.shared_file import SharedFile
from mismatch.data.readers.text_files import content_problem
from mismatch.errors import ImageError, ImageNotFoundError, InputError

__all__ = ["IMAGES", "Member", "Sample", "TarSamples"]

IMAGES = ("jpg", "jpeg", "png", "webp")  # endings of members that are images
BLOCK = 512  # bytes
AHEAD = 2**16  # bytes that are read at once where heads stand near each other
MAX_NAME = 2**16  # bytes of a member's name, or of what a pax head says of it
MAX_SAMPLES = 2**22  # of one archive; writers aim at ten thousand
# types of members
FILES = b"0\0"
LONG_NAME = b"L"
LONG_LINK = b"K"
PAX = b"x"
PAX_OF_ALL = b"g"
OTHERS = {b"1": "a link", b"2": "a link", b"S": "a sparse file"}
WRITE_AGAIN = "write the archive again"


class Member(NamedTuple):
    """A file in an archive."""

    start: int  # byte of the archive
    size: int  # bytes


@dataclass
class Sample:
    """Members of one stem."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)  # ending, in lower case → member
    problem: str | None = None  # why it can't be used

    @property
    def image(self) -> Member | None:
        """Return its image; None where it has none."""
        return next((self.members[name] for name in IMAGES if name in self.members), None)


class TarSamples:
    """An archive's samples, in their order; each can be read at any time. Thread-safe."""

    def __init__(self, path: str | Path) -> None:
        """Read the heads; InputError for what is no tar archive, or a hostile one."""
        self.path = path
        self._file = SharedFile(path)
        start = self._file.read(0, BLOCK)
        if not start.strip(b"\0"):
            raise InputError(f"{path} is an empty tar archive; {WRITE_AGAIN}")
        if start[257:262] != b"ustar" and (problem := content_problem(start)):
            raise InputError(f"{path} is no tar archive but {problem}")
        self.samples: list[Sample] = []
        self._by_key: dict[str, Sample] = {}
        for name, kind, member in self._members():
            self._add(name, kind, member)

    def read(self, member: Member) -> bytes:
        """Return a member's bytes; OSError for an archive that was cut short since."""
        data = self._file.read(member.start, member.size)
        if len(data) != member.size:
            raise OSError(f"{self.path} was changed while it was read")
        return data

    def image(self, key: str, max_bytes: int, name: str) -> bytes:
        """Return the image of a sample, as it is encoded; ImageNotFoundError where there is none,
        ImageError for one that is too large. `name`: what messages call it.
        """
        sample = self._by_key.get(key)
        if sample is None:
            raise ImageNotFoundError(f"{name} not found: {self.path} has no sample {key!r}")
        if sample.problem is not None:
            raise ImageError(f"{name} can't be read: {sample.problem}")
        image = sample.image
        if image is None:
            raise ImageNotFoundError(f"{name} not found: {no_image(sample)}")
        if image.size > max_bytes:
            raise ImageError(f"{name} has more than {max_bytes:,} bytes; make it smaller")
        return self.read(image)

    def _add(self, name: str, kind: bytes, member: Member) -> None:
        folder, _, file = name.rpartition("/")
        stem, _, ending = file.partition(".")
        if not stem or not ending or file.startswith(".") or kind == b"5":
            return  # a folder, or what an operating system leaves behind
        key = posixpath.normpath(posixpath.join(folder, stem))
        if name.startswith("/") or ".." in key.split("/"):
            raise InputError(f"{self.path}: member {name!r} leaves the archive; {WRITE_AGAIN}")
        sample = self.samples[-1] if self.samples else None
        if sample is None or sample.key != key:
            sample = Sample(key)
            if len(self.samples) >= MAX_SAMPLES:
                raise InputError(
                    f"{self.path} has more than {MAX_SAMPLES:,} samples; write it as several"
                    " archives"
                )
            self.samples.append(sample)
            if key in self._by_key:
                sample.problem = (
                    f"the key {key!r} stands twice in {self.path}; {WRITE_AGAIN}, each sample with"
                    " a key of its own"
                )
            else:
                self._by_key[key] = sample
        if kind not in FILES:
            what = OTHERS.get(kind, "no plain file")
            sample.problem = f"member {name!r} is {what}; {WRITE_AGAIN} with the files themselves"
        sample.members.setdefault(ending.lower(), member)

    def _members(self) -> Iterator[tuple[str, bytes, Member]]:
        """Yield the name, the type and the place of each member; InputError for damage."""
        position = 0
        name: str | None = None  # that heads before a member's own give it
        size: int | None = None
        kind_before: bytes | None = None
        heads = _Heads(self._file)
        while (head := heads.block(position)).strip(b"\0"):
            kind = head[156:157]
            length = self._size_of(head, position)
            start = position + BLOCK
            if kind in (LONG_NAME, LONG_LINK, PAX, PAX_OF_ALL):
                words = self._words(start, length)
                if kind == LONG_NAME:
                    name = _text(words)
                elif kind == PAX:
                    facts = self._facts(words)
                    name = facts.get("path", name)
                    size = int(facts["size"]) if facts.get("size", "").isdecimal() else size
                    is_sparse = any(fact.startswith("GNU.sparse") for fact in facts)
                    kind_before = b"S" if is_sparse else None
            else:
                length = length if size is None else size
                if start + length > self._file.size:
                    raise InputError(
                        f"{self.path} is cut short: member {name or _name(head)!r} ends behind its"
                        f" last byte; {WRITE_AGAIN}"
                    )
                yield name or _name(head), kind_before or kind, Member(start, length)
                name = size = kind_before = None
            position = start + -(-length // BLOCK) * BLOCK

    def _size_of(self, head: bytes, position: int) -> int:
        """Return how many bytes follow a head; InputError for what is no head."""
        expected = _octal(head[148:156])
        plain = sum(head) - sum(head[148:156]) + 8 * 32  # blanks stand for the sum itself
        size = _octal(head[124:136])
        if len(head) < BLOCK or plain != expected or size < 0:
            raise InputError(
                f"{self.path} is no tar archive, or damaged: no member begins at byte {position:,};"
                f" {WRITE_AGAIN}"
            )
        return size

    def _words(self, start: int, size: int) -> bytes:
        if size > MAX_NAME:
            raise InputError(
                f"{self.path}: what is said of a member takes {size:,} bytes; at most"
                f" {MAX_NAME:,} are read"
            )
        return self._file.read(start, size)

    def _facts(self, words: bytes) -> dict[str, str]:
        """Return what a pax head says: records of `LENGTH KEY=VALUE` and a line end."""
        facts = {}
        while words.strip(b"\0"):
            digits, blank, _ = words.partition(b" ")
            length = int(digits) if blank and digits.isdigit() and len(digits) < 8 else 0
            key, is_one, value = words[len(digits) + 1 : length - 1].partition(b"=")
            if not is_one or length > len(words):
                raise InputError(f"{self.path}: a pax head is damaged; {WRITE_AGAIN}")
            facts[_text(key)] = _text(value)
            words = words[length:]
        return facts


class _Heads:
    """Blocks of a file, read ahead: members are often small."""

    def __init__(self, file: SharedFile) -> None:
        self._file = file
        self._start = 0
        self._data = b""

    def block(self, position: int) -> bytes:
        """Return the block at this byte; less at the end."""
        within = position - self._start
        if not 0 <= within <= len(self._data) - BLOCK:
            self._start = position
            self._data = self._file.read(position, BLOCK if within > AHEAD else AHEAD)
            within = 0
        return self._data[within : within + BLOCK]


def no_image(sample: Sample) -> str:
    """Return what to say of a sample without an image."""
    endings = ", ".join(f".{ending}" for ending in sample.members)
    wanted = ", ".join(f".{ending}" for ending in IMAGES)
    return f"sample {sample.key!r} has no image, which one of {wanted} is; it has {endings}"


def _octal(field_bytes: bytes) -> int:
    """Return a number of a head; -1 for none. Large ones are written in base 256."""
    if field_bytes[:1] == b"\x80":
        return int.from_bytes(field_bytes[1:], "big")
    digits = field_bytes.strip(b" \0")
    try:
        return int(digits or b"0", 8)
    except ValueError:
        return -1


def _name(head: bytes) -> str:
    name = _text(head[:100])
    prefix = _text(head[345:500]) if head[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
