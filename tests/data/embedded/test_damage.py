"""mismatch.data.embedded.damage: damage is a line that names the file; the system's errors stay."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from mismatch.data.embedded.damage import explained_damage
from mismatch.errors import InputError


class LibraryError(Exception):
    """As a library has one."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("odd\nmore"),
        IndexError("odd"),
        struct.error("odd"),
        OSError("odd"),
        LibraryError("odd"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_damage_is_a_line_that_names_the_file(error: Exception) -> None:
    with (
        pytest.raises(InputError, match=r"^a\.arrow can't be read as Arrow: odd$"),
        explained_damage(Path("a.arrow"), "Arrow", LibraryError),
    ):
        raise error


def test_what_says_nothing_is_called_by_its_kind() -> None:
    with (
        pytest.raises(InputError, match=r"Arrow: IndexError$"),
        explained_damage(Path("a"), "Arrow"),
    ):
        raise IndexError


@pytest.mark.parametrize("error", [PermissionError(13, "no"), LibraryError("odd"), MemoryError()])
def test_others_stay(error: Exception) -> None:
    with pytest.raises(type(error)), explained_damage(Path("a"), "Arrow"):
        raise error
