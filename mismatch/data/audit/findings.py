"""What is doubtful about rows that could be trained on: left-overs in texts, one text everywhere,
near-duplicate images, labels that texts alone give away.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from ftfy.badness import is_bad

from mismatch.data.audit.writing_systems import UnreadShare, main_script, unread_line
from mismatch.data.near_duplicates import Fingerprint, near_duplicate_groups
from mismatch.data.pairs import Row
from mismatch.errors import InputError

__all__ = [
    "Finding",
    "Sampled",
    "TextCheck",
    "TextReader",
    "blind_images",
    "common_images",
    "in_lines",
    "near_duplicates",
    "text_key",
]

SHOWN = 3  # lines in a message
KEPT = 50  # lines in a report
SAMPLE = 50_000  # rows whose texts are looked at for what gives labels away
# least rows, times the mean and share of the rows of an image or text that stands oddly often
LEAST_USES = 20
MORE_OFTEN = 10
LEAST_SHARE = 0.001
BLIND_WARNING = 0.6  # AUROC
MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|&(?:[a-zA-Z]{2,8}|#\d{2,6});")
SPECIAL = 2  # tokens around a text
WORD = re.compile(r"[^\W_]+")


class TextReader(Protocol):
    """A backbone's tokenizer, as far as an audit asks it."""

    @property
    def context_length(self) -> int:
        """Return how many tokens the context holds."""

    def beyond(self, text: str) -> tuple[int, str]:
        """Return how many tokens a text has, and its part that is cut off; InputError for a text
        that can't be tokenized.
        """

    def knows(self, text: str) -> bool:
        """Return whether a text is in a script that the tokenizer was made for; InputError for a
        text that can't be tokenized.
        """


class Sampled(NamedTuple):
    """A row of the sample on which blind baselines are measured."""

    text: str
    label: int
    image: str  # as written


@dataclass
class Finding:
    """A doubt, with the rows it is about."""

    kind: (
        # markup, garbled, long, unread, untokenized, script, boilerplate, common-image,
        # near-duplicates, animated, mode, aspect, small, blind, blind-image
        str
    )
    message: str
    count: int = 0  # rows
    lines: list[int] = field(default_factory=list)  # the first of them

    def to_dict(self) -> dict[str, Any]:
        """Return it with plain JSON types only."""
        return dict(vars(self))


class TextCheck:
    """The texts of one file, row by row; memory grows with distinct texts, by their hashes and
    counts.
    """

    def __init__(self, reader: TextReader | None = None) -> None:
        """Take `reader`: the tokenizer of the backbone that is to see the texts."""
        self._reader = reader
        self._markup = _Lines()
        self._garbled = _Lines()
        self._long = _Lines()
        self._unread: dict[str, _Lines] = {}  # by script
        self._unread_share = UnreadShare()
        self._untokenized = _Lines()
        self._scripts: dict[str, _Lines] = {}
        self._longest = 0  # tokens
        self._uses: Counter[int] = Counter()
        # texts that repeat, each with a line of it
        self._example: dict[int, tuple[str, int]] = {}
        self._random = random.Random(0)
        self.sample: list[Sampled] = []
        self.blind: float | None = None  # AUROC of the texts alone, once `findings` has measured it
        self.rows = 0  # those that have a label

    def add(self, row: Row) -> None:
        """Look at a row that can be used."""
        text = row.text
        if ("<" in text or "&" in text) and MARKUP.search(text):
            self._markup.add(row.line, text)
        if not text.isascii() and is_bad(text):
            self._garbled.add(row.line, text)
        if script := main_script(text):
            self._scripts.setdefault(script, _Lines()).add(row.line, text)
        if self._reader is not None:
            self._look_up(row.line, text, self._reader)
        key = hash(text)
        self._uses[key] += 1
        if self._uses[key] == 2:
            self._example[key] = (text, row.line)
        if row.label is not None:
            self._keep(Sampled(text, row.label, row.image_path))

    def _look_up(self, line: int, text: str, reader: TextReader) -> None:
        try:
            self._read(line, text, reader)
        except InputError:
            self._untokenized.add(line, text)

    def _read(self, line: int, text: str, reader: TextReader) -> None:
        if not text.isascii():
            is_read = reader.knows(text)
            self._unread_share.add(text, is_read)
            if not is_read:
                self._unread.setdefault(main_script(text) or "", _Lines()).add(line, text)
        # a token is a byte at least
        if len(text) * (1 if text.isascii() else 4) + SPECIAL <= reader.context_length:
            return
        tokens, unseen = reader.beyond(text)
        if unseen:
            self._longest = max(self._longest, tokens)
            self._long.add(line, f"… {unseen}")

    def _keep(self, entry: Sampled) -> None:
        """Keep a sample in which every row is as likely as any other."""
        self.rows += 1
        if len(self.sample) < SAMPLE:
            self.sample.append(entry)
            return
        place = self._random.randrange(self.rows)
        if place < SAMPLE:
            self.sample[place] = entry

    def findings(self) -> Iterator[Finding]:
        """Yield all doubts about the texts."""
        yield from self._unusable_texts()
        yield from self._long_texts()
        yield from self._mixed_scripts()
        yield from self._repeated_texts()
        yield from self._blind()

    def _unusable_texts(self) -> Iterator[Finding]:
        """Yield findings for texts with left-overs of a web page, and those that the tokenizer
        can't read.
        """
        if self._markup.count:
            verb = "hold" if self._markup.count != 1 else "holds"
            yield self._markup.of_texts("markup", f"{verb} HTML: tags or entities; take them out")
        if self._garbled.count:
            verb = "are" if self._garbled.count != 1 else "is"
            yield self._garbled.of_texts(
                "garbled", f"{verb} garbled, as by a wrong encoding; ftfy repairs most of them"
            )
        for script in self._unread_share.unread():
            lines = self._unread[script]
            yield lines.of_texts("unread", unread_line(script, lines.count))
        if self._untokenized.count:
            verb = "make" if self._untokenized.count != 1 else "makes"
            yield self._untokenized.of_texts(
                "untokenized",
                f"{verb} the backbone's tokenizer fail, and can't be trained on or scored; change"
                " them",
            )

    def _long_texts(self) -> Iterator[Finding]:
        if self._long.count and self._reader is not None:
            verb = "are" if self._long.count != 1 else "is"
            yield self._long.of_texts(
                "long",
                f"{verb} longer than the backbone's {self._reader.context_length} tokens, up to"
                f" {self._longest}; what is lost",
            )

    def _repeated_texts(self) -> Iterator[Finding]:
        for key, uses in _often(self._uses):
            text, line = self._example[key]
            where = f"stands in {uses:,} of {self._uses.total():,} rows, as in line {line}"
            yield Finding(
                "boilerplate",
                f"the text {_short(text)!r} {where}; it can't tell images apart",
                uses,
                [line],
            )

    def _mixed_scripts(self) -> Iterator[Finding]:
        """Yield a finding for texts that are written in another script than most."""
        if len(self._scripts) > 1:
            common, *others = sorted(self._scripts, key=lambda script: -self._scripts[script].count)
            for script in others:
                lines = self._scripts[script]
                texts = "texts are" if lines.count != 1 else "text is"
                yield lines.finding(
                    "script",
                    f"{lines.count:,} {texts} written in {script.capitalize()} letters, most are in"
                    f" {common.capitalize()}; an audit for a backbone tells whether it can read"
                    " them",
                )

    def _blind(self) -> Iterator[Finding]:
        from mismatch.data.unimodal_baselines import blind_text_auroc, telltales

        texts = [row.text for row in self.sample]
        labels = [row.label for row in self.sample]
        images = [row.image for row in self.sample]
        auroc = _blind_auroc(labels, lambda: blind_text_auroc(texts, labels, images))
        self.blind = auroc
        if auroc is not None and auroc > BLIND_WARNING:
            words = ", ".join(
                f"{told.word!r} ({told.mismatches:.0%} of {told.rows:,} rows are mismatches)"
                for told in telltales(texts, labels, count=SHOWN)
            )
            yield Finding(
                "blind",
                f"texts alone tell the labels (AUROC {auroc:.2f}), so that a model could ignore the"
                f" images; words as {words}",
                self.rows,
            )


def blind_images(
    sample: Sequence[Sampled], prints: Sequence[Fingerprint | None]
) -> tuple[float | None, list[Finding]]:
    """Return how well images alone tell the labels, by their means in 8 x 8 parts. That is an
    AUROC, None where it can't be measured, and a finding where it is too much.

    `prints`: of each sampled row's image, None where it can't be read.
    """
    from mismatch.data.unimodal_baselines import blind_image_auroc

    readable = [(row, made) for row, made in zip(sample, prints, strict=True) if made is not None]
    labels = [row.label for row, _ in readable]
    # (N, 192)
    features = np.array([np.frombuffer(made.thumb, np.uint8) for _, made in readable], np.float32)
    auroc = _blind_auroc(
        labels, lambda: blind_image_auroc(features, labels, [row.image for row, _ in readable])
    )
    if auroc is None or auroc <= BLIND_WARNING:
        return auroc, []
    message = (
        f"images alone tell the labels (AUROC {auroc:.2f}), so that a model could ignore the texts;"
        " do matches and mismatches come from two sources?"
    )
    return auroc, [Finding("blind-image", message, len(readable))]


def _blind_auroc(labels: Sequence[int], measure: Callable[[], float]) -> float | None:
    """Return what `measure` does; None where rows are too few, of one label, or what is needed
    isn't installed: the report says that it was not looked for.
    """
    from mismatch.data.unimodal_baselines import LEAST_ROWS
    from mismatch.errors import MissingExtraError

    if len(labels) < LEAST_ROWS or len(set(labels)) < 2:
        return None
    try:
        return measure()
    except MissingExtraError:
        return None


def common_images(images: Mapping[str, Sequence[int]]) -> Iterator[Finding]:
    """Yield a finding for images that stand oddly often in one file: `images` and the lines that
    name them.
    """
    for path, rows in _often(Counter({path: len(lines) for path, lines in images.items()})):
        lines = list(images[path])
        message = (
            f"the image {path} stands in {rows:,} rows ({in_lines(lines)}); a picture for that many"
            " texts is often a placeholder"
        )
        yield Finding("common-image", message, rows, lines[:KEPT])


def _often(uses: Counter[Any]) -> Iterator[tuple[Any, int]]:
    """Yield the first of those used at least twenty times, ten times as often as the mean, and in a
    thousandth of the rows.
    """
    total = uses.total()
    min_uses = max(LEAST_USES, MORE_OFTEN * total / (len(uses) or 1), LEAST_SHARE * total)
    yield from ((key, count) for key, count in uses.most_common(SHOWN) if count >= min_uses)


def text_key(text: str) -> int:
    """Return the same for texts that differ in case, punctuation, or the order of words only."""
    return hash(" ".join(sorted(WORD.findall(text.casefold()))) or text)


def near_duplicates(
    files: Sequence[Mapping[str, Sequence[int]]], prints: Mapping[str, Fingerprint]
) -> tuple[list[list[Finding]], dict[tuple[int, int], set[str]]]:
    """Return findings by file, and for each two files the images of the first that are
    near-duplicates of another image in the second.

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
            message = (
                f"{len(again):,}"
                f" image{'s are near-duplicates' if len(again) != 1 else ' is a near-duplicate'} of"
                f" another one, as in {in_lines(lines)}"
            )
            findings[number].append(Finding("near-duplicates", message, len(lines), lines[:KEPT]))
        for other in range(number + 1, len(files)):
            shared = members[number].keys() & members[other].keys()
            shared_images = {
                path
                for key in shared
                for path in members[number][key]
                if set(members[other][key]) != {path}
            }
            if shared_images:
                leaks[number, other] = shared_images
    return findings, leaks


def _members(images: Mapping[str, Sequence[int]], group: Mapping[str, int]) -> dict[int, list[str]]:
    members: dict[int, list[str]] = {}
    for path in images:
        if path in group:
            members.setdefault(group[path], []).append(path)
    return members


class _Lines:
    """How many, and the first."""

    def __init__(self) -> None:
        self.count = 0
        self.lines = list[int]()
        self.example = ""

    def add(self, line: int, text: str) -> None:
        self.count += 1
        if len(self.lines) < KEPT:
            self.lines.append(line)
            self.example = self.example or text

    def of_texts(self, kind: str, predicate: str) -> Finding:
        """Return a finding that says of these texts what `predicate` does."""
        texts = "texts" if self.count != 1 else "text"
        return self.finding(kind, f"{self.count:,} {texts} {predicate}")

    def finding(self, kind: str, message: str) -> Finding:
        return Finding(
            kind,
            f"{message} ({in_lines(self.lines, self.count)}: {_short(self.example)!r})",
            self.count,
            self.lines,
        )


def in_lines(lines: Sequence[int], count: int = 0) -> str:
    """Return the first, for a message; `count`: how many there are, if more than `lines`."""
    shown = ", ".join(map(str, lines[:SHOWN]))
    return (
        f"line{'s' * (max(count, len(lines)) > 1)}"
        f" {shown}{', …' if max(count, len(lines)) > SHOWN else ''}"
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
