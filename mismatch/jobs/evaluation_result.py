"""What an evaluation says: all of report.json, the rows behind it, and the page."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict

from mismatch.errors import MissingExtraError
from mismatch.evaluation.decisions import Decisions, ErrorKind, WrongRow
from mismatch.io.outputs import check_outputs, page
from mismatch.jobs.evaluation_parts import (
    AtPrevalence,
    Baselines,
    Bootstrap,
    Comparison,
    Interval,
    Reviewed,
    SliceFigures,
    Stressed,
)
from mismatch.jobs.results import Result, as_json
from mismatch.reports.evaluation_lines import result_lines
from mismatch.specs import LongText

__all__ = ["PAGE", "Evaluation", "Provenance", "ThresholdInUse", "require_matplotlib"]

PAGE = page("an evaluation", "<title>Evaluation of ")  # the kind of file
ON_REQUEST = {"stress", "against", "at_prevalence"}  # fields that it may lack
NOT_REPORTED = {"decisions", "errors", "long_text_note"}  # fields that report.json lacks


class ThresholdInUse(TypedDict, total=False):
    """The threshold that decided, and where it came from."""

    value: float  # a similarity_score
    source: str  # flag: it was given; stored: with the model; default
    objective: str  # what a stored one was chosen for
    rows: int  # those that a stored one was chosen on
    date: str  # a stored one's, ISO 8601
    slices: str  # column whose values have thresholds of their own
    sliced_rows: int  # rows with such a value


class Provenance(TypedDict):
    """What the figures were measured with."""

    date: str  # ISO 8601, UTC
    command: str
    versions: dict[str, str]
    weights: str  # the model's fingerprint
    rows_sha256: str
    calibration: dict[str, Any] | None


@dataclass(frozen=True, repr=False)
class Evaluation(Result):
    """How good a model is on labelled rows.

    `model`: folder or name, as given.
    `engine`: what ran the model, as the engine describes itself: provider, precision and more.
    `csv`: the rows, as given.
    `image_base_path`: folder that image paths are relative to; "": the working directory.
    `rows`: labelled rows of the file; `scored` and `unscorable` together.
    `scored`: rows that have a score; all figures are of these.
    `unscorable`: rows whose image or text can't be used.
    `first_unscorable`: line and status of the first ten rows that can't be used.
    `long_text`: what became of texts over the context: truncate, chunk or chunk-mean.
    `long_texts`: texts over the backbone's context.
    `truncated_texts`: texts that were scored without their end.
    `threshold`: the one that decided, and where it came from.
    `metrics`: accuracy, auroc, precision …, 0..1; nan for what does not exist.
    `intervals`: bounds of each metric, by the bootstrap.
    `bootstrap`: how the intervals were drawn: level 0..1, and whether whole images were.
    `slices`: column → value → figures of its rows; empty without `slices`.
    `kinds`: kind of mismatch → figures, against all matches.
    `review`: the review band, and what it leaves to the model; None without one.
    `blind`: AUROC, 0..1, that the text alone and the image alone reach; 0.5 is chance.
    `stress`: how decisions follow or withstand changes; None unless asked for.
    `provenance`: date, command, versions and digests, to repeat the measurement.
    `against`: paired differences from another model; None without one.
    `errors`: the surest 24 rows of each kind: `missed`, mismatches taken for matches, and `alarms`,
        the reverse.
    `decisions`: score, label and decision of all scored rows.
    `long_text_note`: a sentence about long texts; None where there were none.
    `at_prevalence`: figures where another share of pairs are mismatches; None unless asked for.
    """

    model: str
    engine: dict[str, str]
    csv: str
    image_base_path: str
    rows: int
    scored: int
    unscorable: int
    first_unscorable: list[dict[str, Any]]
    long_text: LongText
    long_texts: int
    truncated_texts: int
    threshold: ThresholdInUse
    metrics: dict[str, Any]
    intervals: dict[str, Interval]
    bootstrap: Bootstrap
    slices: dict[str, dict[str, SliceFigures]]
    kinds: dict[str, SliceFigures]
    review: Reviewed | None
    blind: Baselines
    stress: Stressed | None
    provenance: Provenance
    against: Comparison | None
    errors: dict[ErrorKind, list[WrongRow]]
    decisions: Decisions
    long_text_note: str | None
    at_prevalence: AtPrevalence | None = None

    def __repr__(self) -> str:
        facts = [f"model={self.model!r}", f"scored={self.scored}"]
        facts += [f"{name}={self.metrics[name]:.4f}" for name in ("accuracy", "auroc")]
        return f"{type(self).__name__}({', '.join(facts)})"

    def _repr_html_(self) -> str:
        from mismatch.reports.evaluation import evaluation_fragment

        return evaluation_fragment(self.to_dict())

    def summary(self) -> list[str]:
        """Return it for people, a line each."""
        return list(result_lines(self.to_dict(), self.long_text_note))

    def to_dict(self) -> dict[str, Any]:
        """Return what report.json says, with plain JSON types; without `errors`, `decisions` and
        `long_text_note`, and without what nobody asked for: `stress`, `against`, `at_prevalence`.
        """
        report = {}
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            left_out = name in NOT_REPORTED or (name in ON_REQUEST and value is None)
            if not left_out:
                report[name] = as_json(value)
        return report

    def save(self, path: str | Path) -> None:
        """Write a page that needs no other file. MissingExtraError without matplotlib,
        InputError for a file that is there and is no such page.
        """
        require_matplotlib("Evaluation.save")
        check_outputs([("`path`", Path(path), PAGE)])
        self.write_page(Path(path))

    def write_page(self, path: Path) -> None:
        """Write the page over whatever is there."""
        from mismatch.reports.evaluation import write_evaluation_page

        write_evaluation_page(path, self.to_dict(), self.decisions, self.errors)


def require_matplotlib(what: str) -> None:
    """Refuse `what`, which draws plots, without matplotlib: MissingExtraError."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError(what, "report")
