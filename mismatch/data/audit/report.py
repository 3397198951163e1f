"""What an audit has found: of each file, and of the files together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mismatch.data.audit.findings import Finding, Sampled
from mismatch.data.audit.problems import ProblemGroup
from mismatch.data.pairs import format_location
from mismatch.errors import InputError
from mismatch.io.text import plural

__all__ = ["LABEL_NAMES", "Audit", "FileAudit"]

LABEL_NAMES = {0: "mismatch", 1: "match"}


@dataclass
class FileAudit:
    """What was found in one file."""

    path: str
    labelled: bool = True  # else its rows are pairs, of which make-negatives makes mismatches
    rows: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    texts: int = 0  # distinct ones
    # `text_key` of each → the first line that has it
    text_keys: dict[int, int] = field(default_factory=dict, repr=False)
    sample: list[Sampled] = field(default_factory=list, repr=False)  # the blind baselines'
    # where each image lies → the lines that name it
    images: dict[str, list[int]] = field(default_factory=dict, repr=False)
    bad_images: int = 0
    # AUROC with which texts alone, and images alone, tell the labels
    blind: dict[str, float | None] = field(default_factory=dict)
    bad_lines: set[int] = field(default_factory=set, repr=False)
    faults: list[tuple[int, str]] = field(default_factory=list)  # the file's own: line, message
    # the first ones, faults included, by line
    problems: list[tuple[int, str]] = field(default_factory=list)
    problem_count: int = 0
    # the same by kind
    problem_groups: list[ProblemGroup] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Return whether every row can be used."""
        return not self.problem_count

    @property
    def unusable(self) -> int:
        """Return how many rows can't be used; all where the file itself is at fault."""
        return self.rows if self.faults else len(self.bad_lines)

    def set_problems(self, groups: list[ProblemGroup]) -> None:
        """Take all problems, by kind."""
        self.problem_groups = groups
        self.problem_count = sum(group.count for group in groups)
        self.problems = sorted(problem for group in groups for problem in group.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return it with plain JSON types only."""
        return {
            "path": self.path,
            "ok": self.ok,
            "labelled": self.labelled,
            "rows": self.rows,
            "unusable_rows": self.unusable,
            "labels": {str(label): self.labels[label] for label in LABEL_NAMES},
            "images": len(self.images),
            "bad_images": self.bad_images,
            "texts": self.texts,
            "blind_auroc": self.blind,
            "problem_count": self.problem_count,
            "problem_kinds": [group.to_dict() for group in self.problem_groups],
            "problems": [{"line": line, "problem": message} for line, message in self.problems],
            "warnings": self.warnings,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def lines(self) -> Iterator[str]:
        """Yield it for people: figures, problems as `file:line: …`, warnings."""
        yield from self._figures()
        yield from self._problem_lines()
        for warning in self.warnings:
            yield f"warning: {self.path}: {warning}"
        for finding in self.findings:
            yield f"warning: {self.path}: {finding.message}"
            yield from finding.text_lines()

    def _problem_lines(self) -> Iterator[str]:
        """Yield the first problems of each kind, and how many more there are."""
        for group in self.problem_groups:
            for line, message in group.problems:
                yield f"{format_location(self.path, line)}: {message}"
            if rest := group.rest():
                yield f"{self.path}: … and {rest}"

    def _figures(self) -> Iterator[str]:
        total = self.labels.total()
        shares = [
            f"{label} ({name}): {self.labels[label]:,} ({self.labels[label] / (total or 1):.1%})"
            for label, name in LABEL_NAMES.items()
        ]
        neither = f", neither: {self.rows - total:,}" if self.rows > total else ""
        unusable = f", {self.unusable:,} can't be used" if self.unusable else ""
        bad = f", {self.bad_images:,} can't be used" if self.bad_images else ""
        blind = [f"{name} {auroc:.2f}" for name, auroc in self.blind.items() if auroc is not None]
        yield self.path
        yield f"  rows      {self.rows:,}{unusable}"
        if self.labelled:
            yield f"  labels    {', '.join(shares)}{neither}"
        else:
            yield "  labels    none: these are pairs, of which make-negatives makes mismatches"
        yield f"  images    {len(self.images):,} distinct{bad}"
        yield f"  texts     {self.texts:,} distinct"
        if blind:
            yield (
                f"  blind     {', '.join(blind)} (AUROC with which these alone tell the labels; 0.5"
                " is best)"
            )
        kinds = ", ".join(group.words() for group in self.problem_groups)
        yield f"  problems  {self.problem_count:,}{kinds and f': {kinds}'}"


@dataclass(frozen=True)
class Audit:
    """What was found in all files."""

    files: list[FileAudit]
    warnings: list[str]  # about the files together
    # images that can't be read, and why
    broken: dict[str, InputError] = field(default_factory=dict, repr=False)
    # numbers of two files → near-duplicates in the first
    leaks: dict[tuple[int, int], set[str]] = field(default_factory=dict, repr=False)
    # paths that name no file → the path of the file that is meant
    meant: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        """Return whether every row of every file can be used."""
        return all(file.ok for file in self.files)

    @property
    def doubtful(self) -> bool:
        """Return whether there is any warning."""
        return bool(self.warnings) or any(file.warnings or file.findings for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Return it with plain JSON types only."""
        leaks = [
            {"files": [self.files[first].path, self.files[second].path], "images": sorted(images)}
            for (first, second), images in self.leaks.items()
        ]
        return {
            "ok": self.ok,
            "files": [file.to_dict() for file in self.files],
            "warnings": self.warnings,
            "leaks": leaks,
        }

    def lines(self) -> Iterator[str]:
        """Yield it for people: each file, warnings about all of them, and the verdict."""
        for file in self.files:
            yield from file.lines()
            yield ""
        for warning in self.warnings:
            yield f"warning: {warning}"
        yield self.verdict()

    def verdict(self) -> str:
        """Return it in one line."""
        purpose = "to train on" if self._labelled or not self.files else "to make mismatches of"
        rows = plural(sum(file.rows for file in self.files), "row")
        if not self.ok:
            problems = plural(sum(file.problem_count for file in self.files), "problem")
            unusable = sum(file.unusable for file in self.files)
            return f"not fit {purpose}: {problems}, {unusable:,} of {rows} can't be used"
        pairs = sum(file.rows for file in self.files if not file.labelled)
        note = f"; {plural(pairs, 'row')} without labels" if pairs else ""
        return f"fit {purpose}: {rows}, no problems{note}"

    @property
    def _labelled(self) -> bool:
        return any(file.labelled for file in self.files)
