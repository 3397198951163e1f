"""Whether an ONNX file holds all of its weights: a stranger's may say that they lie at a path of its choice, which onnxruntime would open. Needs no onnx."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from mismatch.errors import CheckpointError

__all__ = ["check_self_contained"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types of protobuf
DEEPEST = 256  # messages within messages
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # fields of TensorProto
# Of each message, the fields that lead to a TensorProto, and what they hold. Numbers are those of onnx.proto, which never change.
LEADS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}


def check_self_contained(path: Path) -> None:
    """CheckpointError where a weight lies in another file, or where the file is no ONNX at all. Weights themselves are not read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            elsewhere = any(_lies_elsewhere(data, start, end) for start, end in _tensors(data, "model", 0, len(data), 0))
    except (OSError, ValueError, IndexError, RecursionError) as error:  # ValueError: also of mmap, for an empty file
        raise CheckpointError(f"{path} can't be read as ONNX ({error}); copy or export the bundle again") from error
    if elsewhere:
        raise CheckpointError(f"{path} says that its weights lie in another file, which is not opened: a bundle's graphs hold all of theirs; export it again")


def _tensors(data: mmap.mmap, kind: str, start: int, end: int, depth: int) -> Iterator[tuple[int, int]]:
    """Where each TensorProto within a message begins and ends."""
    if depth > DEEPEST:
        raise ValueError("graphs lie too deep in each other")
    for field, wire, first, last in _fields(data, start, end):
        found = LEADS[kind].get(field) if wire == BYTES else None
        if found == "tensor":
            yield first, last
        elif found is not None:
            yield from _tensors(data, found, first, last, depth + 1)


def _lies_elsewhere(data: mmap.mmap, start: int, end: int) -> bool:
    """Whether a TensorProto says so, by its location or by naming a file."""
    for field, wire, first, _ in _fields(data, start, end):
        if (field == DATA_LOCATION and wire == VARINT and _varint(data, first, end)[0] != 0) or (field == EXTERNAL_DATA and wire == BYTES):
            return True
    return False


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and where its value begins and ends, of each field of a message."""
    at = start
    while at < end:
        key, at = _varint(data, at, end)
        field, wire = key >> 3, key & 7
        first = at
        if wire == VARINT:
            _, at = _varint(data, at, end)
        elif wire == BYTES:
            length, first = _varint(data, at, end)
            at = first + length
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"a field of wire type {wire} at byte {first}")
        if at > end:
            raise ValueError(f"it is cut short within the field at byte {first}")
        yield field, wire, first, at


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and where it ends."""
    value = 0
    for place in range(10):
        if at + place >= end:
            raise ValueError(f"it is cut short at byte {at + place}")
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError(f"a number of more than ten bytes at byte {at}")
