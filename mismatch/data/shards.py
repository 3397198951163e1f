"""Several files as one source of rows: `shards/{00000..00099}.tar` names a hundred."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

from mismatch.data.embedded.containers import open_table, open_tar
from mismatch.errors import InputError, MismatchError

__all__ = ["is_pattern", "row_place", "shard_files"]

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"([0-9]{1,12})\.\.([0-9]{1,12})")
MAX_FILES = 100_000
SHOWN = 3  # missing files in one message


def is_pattern(path: str | Path) -> bool:
    """Return whether a path names several files; one that is there by that name is one file."""
    text = str(path)
    choices = BRACES.findall(text)
    several = any("," in choice or RANGE.fullmatch(choice) for choice in choices)
    return several and not os.path.lexists(text)


def shard_files(path: str | Path) -> list[Path]:
    """Return the files that a path names, in the order in which the pattern has them: `{a,b}` is
    one or the other, `{000..099}` a number. InputError for one that is not there.
    """
    if not is_pattern(path):
        return [Path(path)]
    pieces = BRACES.split(str(path))
    choices = [
        [piece] if number % 2 == 0 else _choices(piece, path) for number, piece in enumerate(pieces)
    ]
    count = 1
    for texts in choices:
        count *= len(texts)
    if count > MAX_FILES:
        raise InputError(f"{path} names {count:,} files; at most {MAX_FILES:,} are read together")
    files = [Path("".join(texts)) for texts in itertools.product(*choices)]
    missing = [file for file in files if not file.exists()]
    if missing:
        shown = ", ".join(map(str, missing[:SHOWN]))
        verb = "is" if len(missing) == 1 else "are"
        more = f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        raise InputError(f"{path} names {len(files):,} files, and {shown}{more} {verb} not there")
    return files


def row_place(path: str | Path, number: int) -> str | None:
    """Return where a row stands, by the number that it has among those of all files: the file and
    the sample's key, or the file and its row; None where that can't be told.
    """
    try:
        for file in shard_files(path):
            if file.suffix.lower() == ".tar":
                samples = open_tar(file).samples
                if number <= len(samples):
                    return f"{file}:{samples[number - 1].key}"
                number -= len(samples)
            elif number <= (count := open_table(file).count):
                return f"{file}:row {number}"
            else:
                number -= count
    except (OSError, MismatchError):
        pass
    return None


def _choices(piece: str, path: str | Path) -> list[str]:
    numbers = RANGE.fullmatch(piece)
    if numbers is None:
        return piece.split(",") if "," in piece else [f"{{{piece}}}"]
    first, last = map(int, numbers.groups())
    if not first <= last < first + MAX_FILES:
        raise InputError(
            f"{path}: {{{piece}}} is no range of at most {MAX_FILES:,} numbers; write the smaller"
            " one first"
        )
    width = len(numbers[1])  # 00..99 has zeros in front, as a shell writes them
    return [f"{number:0{width}}" for number in range(first, last + 1)]
