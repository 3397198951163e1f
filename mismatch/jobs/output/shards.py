"""Rows as webdataset archives: a sample has members of one name, its image, text, label and
columns. The same rows make the same bytes.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mismatch.data.columns import LABELS
from mismatch.data.embedded.tar import TarSamples
from mismatch.data.rows import Row
from mismatch.errors import InputError
from mismatch.io.atomic import WaitingNames, atomic_binary
from mismatch.io.outputs import OutputKind
from mismatch.jobs.output.image_bytes import image_ending

__all__ = ["Shard", "ShardNames", "shard_table", "shards_of"]

TAR = ".tar"
NUMBER = re.compile(r"%0([1-9])d")
BRACES = re.compile(r"\{[^{}]*(?:,|\.\.)[^{}]*\}")
KEY_DIGITS = 9  # of a row's number, by which its members are called


@dataclass(frozen=True)
class ShardNames:
    """What the archives of an output are called."""

    folder: Path
    before: str  # the number
    digits: int  # of the number; 0: there is a single archive
    behind: str

    @property
    def several(self) -> bool:
        """Return whether there may be several."""
        return self.digits > 0

    @property
    def pattern(self) -> re.Pattern[str]:
        """Return what the names of all of them match."""
        number = rf"\d{{{self.digits},}}" if self.several else ""
        return re.compile(re.escape(self.before) + number + re.escape(self.behind))

    def path(self, number: int) -> Path:
        """Return the archive of a number, from 0."""
        shown = f"{number:0{self.digits}}" if self.several else ""
        return self.folder / f"{self.before}{shown}{self.behind}"

    def earlier(self) -> list[Path]:
        """Return the files of such names that are there, in order."""
        if not self.folder.is_dir():
            return []
        files = (path for path in self.folder.iterdir() if self.pattern.fullmatch(path.name))
        return sorted(files)

    def kind(self, columns: Sequence[str]) -> OutputKind:
        """Return the kind of an archive of rows with these columns."""
        return OutputKind("an archive of such rows", lambda path: _columns_of(path) == {*columns})


def shards_of(target: Path) -> ShardNames | None:
    """Return the archives that an output names; None for any other. InputError for a pattern that
    fixes their number, which the rows do.
    """
    if target.suffix.lower() != TAR:
        return None
    if BRACES.search(str(target)):
        raise InputError(
            f"`output` {target} names so many files, and the rows say how many there are; write"
            " %05d for the number, as in shards/%05d.tar"
        )
    parts = NUMBER.split(target.name)
    if len(parts) == 1:
        return ShardNames(target.parent, target.name, 0, "")
    if len(parts) != 3:
        raise InputError(f"`output` {target} has several numbers; write %05d once")
    return ShardNames(target.parent, parts[0], int(parts[1]), parts[2])


class Shard:
    """Where the rows of one archive go."""

    def __init__(self, archive: tarfile.TarFile, header: Sequence[str]) -> None:
        self.count = 0
        self._archive = archive
        self._header = header

    def add(self, number: int, row: Row, image: bytes) -> None:
        """Write a row and its image, of which `image_ending` knows the format. Its key is its
        number, of all archives, from 1.
        """
        values = {name: row.columns.get(name, "") for name in self._header}
        members = {
            image_ending(image, row.image_path): image,
            "json": json.dumps(values, ensure_ascii=False).encode(),
            "txt": row.text.encode(),
        }
        label = row.columns.get("label", "").strip()
        if label in LABELS:
            members["cls"] = label.encode()
        for name in sorted(members):
            self._write(f"{number - 1:0{KEY_DIGITS}}.{name}", members[name])
        self.count += 1

    def _write(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)  # of no user, and of no time
        member.size = len(data)
        self._archive.addfile(member, io.BytesIO(data))


@contextmanager
def shard_table(path: Path, header: Sequence[str], names: WaitingNames) -> Iterator[Shard]:
    """Yield an archive, which takes its name with the others of `names`, see `together`."""
    with (
        atomic_binary(path, names) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        yield Shard(archive, header)


def _columns_of(path: Path) -> set[str] | None:
    """Return the columns of an archive's first sample; None where it has none."""
    try:
        archive = TarSamples(path)
        data = archive.read(archive.samples[0].members["json"])
        return {*json.loads(data)}
    except (InputError, OSError, ValueError, LookupError, RecursionError, TypeError):
        return None
