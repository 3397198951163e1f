"""What an audit of labels says: the rows by how probably their label is wrong, and the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mismatch.evaluation.label_errors import LabelFinding, Share
from mismatch.io.outputs import check_outputs, page
from mismatch.jobs.results import Result

__all__ = ["MAX_PICTURES", "PAGE", "LabelAudit"]

MIN_AUROC = 0.75  # heads below it don't count
MAX_PICTURES = 100  # rows in the page, unless `top` says how many
NOTEBOOK_PICTURES = 10
PAGE = page("a page of labels", "<title>Labels of ")
MAX_LETTERS_SHOWN = 60  # a line shows no more of a text


@dataclass(frozen=True, repr=False)
class LabelAudit(Result):
    """The rows of a labelled file by how probably their label is wrong.

    `csv`: the rows, as given.
    `image_base_path`: folder that image paths are relative to; "": the working directory.
    `findings`: the rows, the most suspicious first; those without a score last.
    `share`: estimated share of wrong labels, 0..1, among the rows that are ranked.
    `auroc`: AUROC of the heads, 0..1, by the labels as they are.
    `folds`: parts of the images, each scored by heads that never saw it.
    `repeats`: times that this was done, with other folds.
    `texts_apart`: whether no text stood both in a row that was scored and in training.
    `unscorable`: rows whose image or text can't be used.
    `model_note`: a sentence about the model; empty where there is nothing to say.
    `written`: rows of `output`, at most `top`; 0 without it.
    `kinds`: the same share of each kind of row.
    `rows`: rows that heads were trained on; more than are ranked where some are left out.
    `reversed_note`: a sentence where labels seem to be the other way round; else empty.
    """

    csv: str
    image_base_path: str
    findings: list[LabelFinding]
    share: Share
    auroc: float
    folds: int
    repeats: int
    texts_apart: bool
    unscorable: int
    model_note: str
    written: int
    kinds: dict[str, Share] = field(default_factory=dict)
    rows: int = 0
    reversed_note: str = ""

    def __repr__(self) -> str:
        share = 100 * self.share.value
        return f"LabelAudit(csv={self.csv!r}, rows={self.share.rows}, wrong={share:.1f} %)"

    def _repr_html_(self) -> str:
        from mismatch.reports.labels import labels_fragment

        shown = self.ranked(NOTEBOOK_PICTURES)
        return labels_fragment(_plain(self.summary()), shown, self.image_base_path)

    def ranked(self, count: int | None = None) -> list[LabelFinding]:
        """Return the rows that have a rank, or the first `count` of them."""
        return [finding for finding in self.findings if finding.rank is not None][:count]

    def summary(self) -> list[str]:
        """Return what is to be said of all rows, a sentence each."""
        return list(_sentences(self))

    def first_lines(self, count: int = 5) -> list[str]:
        """Return the most suspicious rows for people, a line each."""
        lines = []
        for finding in self.ranked(count):
            text = finding.text
            if len(text) > MAX_LETTERS_SHOWN:
                text = text[: MAX_LETTERS_SHOWN - 1] + "…"
            where = f"{finding.rank:>3}. line {finding.line}: {finding.image_path}"
            lines.append(f"{where} {text!r}: {finding.reason}")
        return lines

    def save(self, path: str | Path, *, top: int | None = None) -> None:
        """Write a page with pictures of the first rows: `top`, by default 100. InputError for a
        file that is there and is no such page.
        """
        check_outputs([("`path`", Path(path), PAGE)])
        self.write_page(Path(path), top)

    def write_page(self, path: Path, top: int | None = None) -> None:
        """Write the page over whatever is there."""
        from mismatch.reports.labels import write_labels_page

        title = f"Labels of {Path(self.csv).name}"
        shown = self.ranked(top or MAX_PICTURES)
        write_labels_page(path, title, _plain(self.summary()), shown, self.image_base_path)


def _plain(lines: Iterable[str]) -> list[str]:
    """Return sentences without the backquotes of options."""
    return [line.replace("`", "") for line in lines]


def _sentences(audit: LabelAudit) -> Iterator[str]:
    count = audit.folds * audit.repeats
    heads = f"{count} heads ({audit.folds} folds of images, {audit.repeats} times)"
    text = " and its text" if audit.texts_apart else ""
    left_out = audit.rows - audit.share.rows
    of_all = f" of {audit.rows:,}" if left_out > 0 else ""
    yield (
        f"{audit.csv}: {audit.share.rows:,}{of_all} rows ranked by {heads}, each row by heads"
        f" trained without its image{text}"
    )
    yield (
        f"they rank a match above a mismatch {100 * audit.auroc:.0f} times in 100, by the labels as"
        " they are"
    )
    if audit.auroc < MIN_AUROC:
        yield (
            "warning: that is too little to judge labels by; another `model` may know these images"
            " and texts better"
        )
    if not audit.texts_apart:
        yield (
            "warning: the texts recur so much that they can't be kept out of training; a text that"
            " is always labelled wrong is not found"
        )
    if audit.model_note:
        yield f"warning: {audit.model_note}"
    if audit.unscorable:
        yield (
            f"{audit.unscorable:,} rows could not be scored and stand at the end: see their status"
        )
    if audit.reversed_note:
        yield f"warning: {audit.reversed_note}"
    yield audit.share.words()
    yield from _by_kind(audit)


def _by_kind(audit: LabelAudit) -> Iterator[str]:
    """Yield what is to be said of kinds of rows."""
    parts = []
    for name, share in audit.kinds.items():
        span = f"{100 * share.low:.1f} to {100 * share.high:.1f} %"
        words = f"can't be told, {span}" if share.unknown else f"{100 * share.value:.1f} %, {span}"
        parts.append(f"{name} ({share.rows:,}): {words}")
    if len(parts) > 2:
        yield f"by kind: {'; '.join(parts)}"
    elif len(parts) == 2:
        yield (
            "kinds of mismatch are not told apart here, so that hard ones may count as wrong;"
            " a column of kinds tells them apart"
        )
