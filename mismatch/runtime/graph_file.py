"""Untrusted ONNX files, looked at before onnxruntime sees them: a graph may say that its weights
lie at a path of its choice. Needs no onnx.

The reader is stricter than protobuf, so that both can't read one file differently: what no writer
of protobuf writes is refused, not interpreted. A field that stands twice is merged or replaced by
protobuf; here each one is looked at, and one that points elsewhere is enough.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable
from pathlib import Path

from mismatch.errors import CheckpointError
from mismatch.io.reading import check_regular, read_bytes
from mismatch.io.retries import reason

__all__ = ["LARGEST", "check_graph", "check_self_contained", "read_graph"]

LARGEST = 2**31 - 1  # bytes of a message of protobuf, so of a graph
# a ViT-B/32 has some ten thousand; each may take onnxruntime hundreds of bytes, and two in the file
MAX_GRAPH_FIELDS = 1_000_000
DEEPEST = 100  # messages within messages, as protobuf itself has it
# wire types of protobuf; 3 and 4, groups, are in no message of ONNX
VARINT = 0
FIXED64 = 1
BYTES = 2
FIXED32 = 5
# the most that protobuf reads of a tag, a number and a length
TAG_BYTES = 5
VALUE_BYTES = 10
LENGTH_BYTES = 5
LARGEST_TAG = 2**32 - 1
# fields of TensorProto
EXTERNAL_DATA = 13
DATA_LOCATION = 14
OP_TYPE = 4  # field of NodeProto
ELSEWHERE = {b"EPContext"}  # operators that name files: a compiled graph of an execution provider
# bytes 4 to 8 of onnxruntime's own format, which it knows by them and which is not looked through
# here
FLATBUFFER = b"ORTM"
# Of each message, the fields that hold messages. Numbers are those of onnx.proto, which never
# change.
LEADS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "entry", 14: "entry", 20: "training", 25: "function", 26: "entry"},
    "training": {1: "graph", 2: "graph", 3: "entry", 4: "entry"},
    "graph": {
        1: "node",
        5: "tensor",
        11: "value",
        12: "value",
        13: "value",
        14: "annotation",
        15: "sparse tensor",
        16: "entry",
    },
    "function": {7: "node", 9: "entry", 11: "attribute", 12: "value", 14: "entry"},
    "node": {5: "attribute", 9: "entry", 10: "entry"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        14: "type",
        15: "type",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {EXTERNAL_DATA: "entry", 16: "entry"},
    "value": {2: "type", 4: "entry"},
    "type": {1: "tensor type", 4: "element", 5: "map", 8: "tensor type", 9: "element"},
    "tensor type": {2: "shape"},
    "element": {1: "type"},
    "map": {2: "type"},
    "shape": {1: "entry"},
    "annotation": {2: "entry"},
    "entry": {},  # strings and numbers only
}


class _ElsewhereError(ValueError):
    """The graph would have another file opened."""


def read_graph(path: Path, sha256: str | None = None) -> bytes:
    """Read an ONNX file, checked; with `sha256`, hex, only one of that digest. What is returned is
    what was checked, whatever becomes of the file.

    CheckpointError where it can't be read, is another, is no ONNX, or names other files.
    """
    try:
        data = read_bytes(path, LARGEST)
    except OSError as error:
        raise CheckpointError(
            f"{path} can't be read: {reason(error)}; copy the bundle again, whole"
        ) from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(
            f"{path} differs from the manifest's sha256: damaged or changed; copy or export the"
            " bundle again"
        )
    check_graph(data, path)
    return data


def check_self_contained(path: Path) -> None:
    """Refuse, by CheckpointError, a file of which a weight lies in another file, or that is no ONNX
    at all. Weights themselves are not read.
    """
    try:
        check_regular(path)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            check_graph(data, path)
    except (OSError, ValueError) as error:  # ValueError: of mmap, for an empty file
        raise _unreadable(path, error) from error


def check_graph(data: bytes | mmap.mmap, path: Path) -> None:
    """Check, as `check_self_contained`, the bytes that `path` has."""
    try:
        if not len(data):
            raise ValueError("it is empty")
        if data[4:8] == FLATBUFFER:
            raise ValueError("it is in onnxruntime's own format")
        _Reader(data).message("model", 0, len(data), 0)
    except _ElsewhereError as error:
        raise CheckpointError(
            f"{path} says that {error}, which is not opened: a bundle's graphs hold all that they"
            " need; export it again"
        ) from error
    except (ValueError, IndexError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} can't be read as ONNX ({error}); copy or export the bundle again"
    )


class _Reader:
    """One pass over all messages of a file."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        self._left = MAX_GRAPH_FIELDS

    def message(self, kind: str, start: int, end: int, depth: int) -> None:
        """Look through a message and those in it. ValueError for what protobuf's writers never
        write, _ElsewhereError for what names a file.
        """
        if depth > DEEPEST:
            raise ValueError("graphs lie too deep in each other")
        leads = LEADS[kind]
        check = CHECKS.get(kind)
        position = start
        while position < end:
            field, wire, first, position = self._field(position, end)
            if check is not None:
                check(self._data, field, wire, first, position)
            if wire == BYTES and field in leads:
                self.message(leads[field], first, position, depth + 1)

    def _field(self, position: int, end: int) -> tuple[int, int, int, int]:
        """Return the number and the wire type of the field at `position`, and where its value
        begins and ends.
        """
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it has more than {MAX_GRAPH_FIELDS:,} fields")
        tag, first = self._varint(position, end, TAG_BYTES)
        field = tag >> 3
        wire = tag & 7
        if tag > LARGEST_TAG or field == 0:
            raise ValueError(f"a field without a number at byte {position}")
        if wire == VARINT:
            _, stop = self._varint(first, end, VALUE_BYTES)
        elif wire == BYTES:
            length, first = self._varint(first, end, LENGTH_BYTES)
            stop = first + length
        elif wire in (FIXED64, FIXED32):
            stop = first + (8 if wire == FIXED64 else 4)
        else:
            raise ValueError(f"a field of wire type {wire} at byte {position}")
        if stop > end:
            raise ValueError(f"it is cut short within the field at byte {position}")
        return field, wire, first, stop

    def _varint(self, position: int, end: int, max_bytes: int) -> tuple[int, int]:
        """Return a number of 7 bits a byte, the lowest first, and where it ends."""
        value = 0
        for index in range(max_bytes):
            if position + index >= end:
                raise ValueError(f"it is cut short at byte {position + index}")
            byte = self._data[position + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value, position + index + 1
        raise ValueError(f"a number of more than {max_bytes} bytes at byte {position}")


def _check_tensor(data: bytes | mmap.mmap, field: int, wire: int, first: int, stop: int) -> None:
    """Refuse a weight that says, or only hints, that it lies in a file."""
    located = field == DATA_LOCATION and (
        wire != VARINT or any(byte & 0x7F for byte in data[first:stop])
    )
    if located or field == EXTERNAL_DATA:
        raise _ElsewhereError("its weights lie in another file")


def _check_node(data: bytes | mmap.mmap, field: int, wire: int, first: int, stop: int) -> None:
    """Refuse an operator that reads a file."""
    if field == OP_TYPE and wire == BYTES and data[first:stop] in ELSEWHERE:
        raise _ElsewhereError("a part of it lies in another file")


CHECKS: dict[str, Callable[[bytes | mmap.mmap, int, int, int, int], None]] = {
    "tensor": _check_tensor,
    "node": _check_node,
}
