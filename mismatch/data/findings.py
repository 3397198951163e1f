"""What is doubtful about rows that could be trained on: left-overs in texts, one text everywhere, near-duplicate images, labels that texts alone give away."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftfy.badness import is_bad

from mismatch.data.pairs import Row
from mismatch.data.similar import Fingerprint, near_duplicate_groups

__all__ = ["Finding", "TextCheck", "near_duplicates"]

SHOWN = 3  # lines in a message
KEPT = 50  # lines in a report
SAMPLE = 50_000  # rows whose texts are looked at for what gives labels away
REPEATED = 0.05  # share of the rows from which one text is boilerplate
LEAST_REPEATS = 20
BLIND_WARNING = 0.6  # AUROC
Beyond = Callable[[str], tuple[int, str]]  # a text → its tokens, and what of it is cut off
MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|&(?:[a-zA-Z]{2,8}|#\d{2,6});")


@dataclass
class Finding:
    """A doubt, with the rows it is about."""

    kind: str  # markup, garbled, long, boilerplate, near-duplicates, leak, blind
    message: str
    count: int = 0  # rows
    lines: list[int] = field(default_factory=list)  # the first of them

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dict(vars(self))


class TextCheck:
    """The texts of one file, row by row; memory grows with distinct texts, by eight bytes each and their count."""

    def __init__(self, beyond: Beyond | None = None, context: int = 0) -> None:
        """`beyond`: how many tokens a text has, and its part that a backbone with a `context` of so many tokens doesn't see."""
        self._beyond, self._context = beyond, context
        self._markup, self._garbled, self._long = _Lines(), _Lines(), _Lines()
        self._longest = 0  # tokens
        self._uses: Counter[int] = Counter()
        self._example: dict[int, tuple[str, int]] = {}  # of texts that repeat: the text and a line of it
        self._sample: list[tuple[str, int, int]] = []  # text, label, image
        self._random = random.Random(0)
        self.rows = 0

    def add(self, row: Row) -> None:
        """Look at a row that can be used."""
        text = row.text
        if ("<" in text or "&" in text) and MARKUP.search(text):
            self._markup.add(row.line, text)
        if not text.isascii() and is_bad(text):
            self._garbled.add(row.line, text)
        if self._beyond is not None and len(text) > self._context:  # a token is a character at least
            tokens, unseen = self._beyond(text)
            if unseen:
                self._longest = max(self._longest, tokens)
                self._long.add(row.line, f"… {unseen}")
        key = hash(text)
        self._uses[key] += 1
        if self._uses[key] == 2:
            self._example[key] = (text, row.line)
        if row.label is not None:
            self._keep((text, row.label, hash(row.image_path)))

    def _keep(self, entry: tuple[str, int, int]) -> None:
        """A sample in which every row is as likely as any other."""
        self.rows += 1
        if len(self._sample) < SAMPLE:
            self._sample.append(entry)
        elif (at := self._random.randrange(self.rows)) < SAMPLE:
            self._sample[at] = entry

    def findings(self) -> Iterator[Finding]:
        """All doubts about the texts."""
        for kind, found, what in (
            ("markup", self._markup, "hold HTML: tags or entities; take them out"),
            ("garbled", self._garbled, "are garbled, as by a wrong encoding; ftfy repairs most of them"),
        ):
            if found.count:
                yield found.finding(kind, f"{found.count:,} text{'s' * (found.count != 1)} {what}")
        if self._long.count:
            what = f"text{'s are' if self._long.count != 1 else ' is'} longer than the backbone's {self._context} tokens, up to {self._longest}; what is lost"
            yield self._long.finding("long", f"{self._long.count:,} {what}")
        total = self._uses.total()
        for key, uses in self._uses.most_common(SHOWN):
            if uses >= max(LEAST_REPEATS, REPEATED * total):
                text, line = self._example[key]
                where = f"stands in {uses:,} of {total:,} rows, as in line {line}"
                yield Finding("boilerplate", f"the text {_short(text)!r} {where}; it can't tell images apart", uses, [line])
        yield from self._blind()

    def _blind(self) -> Iterator[Finding]:
        from mismatch.data.blind import LEAST_ROWS, blind_text_auroc, telltales
        from mismatch.errors import MissingExtraError

        texts, labels, images = zip(*self._sample, strict=True) if self._sample else ((), (), ())
        if len(texts) < LEAST_ROWS or len(set(labels)) < 2:
            return
        try:
            auroc = blind_text_auroc(texts, labels, images)
        except MissingExtraError:
            return  # the report says that it was not looked for
        if auroc > BLIND_WARNING:
            words = ", ".join(f"{told.word!r} ({told.mismatches:.0%} of {told.rows:,} rows are mismatches)" for told in telltales(texts, labels, count=SHOWN))
            yield Finding("blind", f"texts alone tell the labels (AUROC {auroc:.2f}), so that a model could ignore the images; words as {words}", self.rows)


def near_duplicates(
    files: Sequence[Mapping[str, Sequence[int]]], prints: Mapping[str, Fingerprint]
) -> tuple[list[list[Finding]], dict[tuple[int, int], set[str]]]:
    """Findings by file, and for each two files the images of the first that are near-duplicates of another image in the second.

    `files`: for each file, its images and the lines that name them.
    """
    paths = list(dict.fromkeys(path for images in files for path in images if path in prints))
    group = dict(zip(paths, near_duplicate_groups([prints[path] for path in paths]), strict=True))
    findings: list[list[Finding]] = [[] for _ in files]
    leaks: dict[tuple[int, int], set[str]] = {}
    members = [_members(images, group) for images in files]
    for number, images in enumerate(files):
        again = [path for paths in members[number].values() for path in paths[1:]]
        if again:
            lines = sorted(line for path in again for line in images[path])
            message = f"{len(again):,} image{'s are near-duplicates' if len(again) != 1 else ' is a near-duplicate'} of another one, as in {_in_lines(lines)}"
            findings[number].append(Finding("near-duplicates", message, len(lines), lines[:KEPT]))
        for other in range(number + 1, len(files)):
            shared = members[number].keys() & members[other].keys()
            found = {path for key in shared for path in members[number][key] if set(members[other][key]) != {path}}
            if found:
                leaks[number, other] = found
    return findings, leaks


def _members(images: Mapping[str, Sequence[int]], group: Mapping[str, int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for path in images:
        if path in group:
            found.setdefault(group[path], []).append(path)
    return found


class _Lines:
    """How many, and the first."""

    def __init__(self) -> None:
        self.count, self.lines, self.example = 0, list[int](), ""

    def add(self, line: int, text: str) -> None:
        self.count += 1
        if len(self.lines) < KEPT:
            self.lines.append(line)
            self.example = self.example or text

    def finding(self, kind: str, message: str) -> Finding:
        return Finding(kind, f"{message} ({_in_lines(self.lines, self.count)}: {_short(self.example)!r})", self.count, self.lines)


def _in_lines(lines: Sequence[int], count: int = 0) -> str:
    shown = ", ".join(map(str, lines[:SHOWN]))
    return f"line{'s' * (max(count, len(lines)) > 1)} {shown}{', …' if max(count, len(lines)) > SHOWN else ''}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
