"""What holds for all inputs, tried on those that hypothesis makes up."""

from __future__ import annotations

import base64
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from mismatch.data.lexicon import Lexicon, exchange
from mismatch.data.pairs import read_rows
from mismatch.errors import MismatchError
from mismatch.evaluation.drift import psi
from mismatch.jobs.row_tables import FORMULA, NUMBER, RowWriter, harmless
from mismatch.runtime.phrases import find_phrases, find_words, without
from mismatch.runtime.scoring import log_odds, pool_pieces, scores_from_logits
from mismatch.runtime.tokenize import Tokenizer
from mismatch.serving.images import from_base64
from mismatch.specs import Calibration, ReviewBand, ScoreSpec, Threshold

quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
texts = some.text(some.characters(exclude_categories=["Cs"]), max_size=60)
numbers = some.floats(-30, 30)


@some.composite
def calibrations(draw: Any) -> Calibration:
    """Of each kind."""
    slope, intercept = draw(some.floats(0.01, 20)), draw(some.floats(-5, 5))
    kind = draw(some.sampled_from(["temperature", "platt", "piecewise"]))
    if kind != "piecewise":
        return Calibration(slope, 0.0 if kind == "temperature" else intercept, 100, kind)
    steps = draw(
        some.lists(some.tuples(some.floats(0.01, 3), some.floats(0.01, 3)), min_size=2, max_size=8)
    )
    knots, bent = np.cumsum(steps, axis=0).T - 4
    return Calibration(slope, intercept, 100, kind, tuple(knots.tolist()), tuple(bent.tolist()))


@quick
@given(calibrations(), some.lists(numbers, min_size=2, max_size=20))
def test_a_calibration_keeps_ranks_and_gives_probabilities(
    calibration: Calibration, logits: list[float]
) -> None:
    ordered = np.sort(logits)
    odds = log_odds(ordered, calibration)
    assert all(a <= b for a, b in pairwise(odds))
    assert all(
        a < b
        for (a, b), (x, y) in zip(pairwise(odds), pairwise(ordered), strict=True)
        if y - x > 1e-6
    )
    scores = scores_from_logits(ordered, ScoreSpec("probability", 0.5, calibration))
    assert ((scores >= 0) & (scores <= 1)).all()


@quick
@given(
    calibrations(),
    some.floats(0, 1),
    some.tuples(some.floats(0, 1), some.floats(0, 1)),
    some.sampled_from(["truncate", "chunk", "chunk-mean"]),
)
def test_a_score_survives_json(
    calibration: Calibration, threshold: float, band: tuple[float, float], long_text: Any
) -> None:
    stored = Threshold(threshold, "f1", 100, "2026-01-01T00:00:00+00:00")
    spec = ScoreSpec(
        "probability", 0.5, calibration, stored, long_text, ReviewBand(min(band), max(band))
    ).with_threshold(stored)
    assert ScoreSpec.from_dict(spec.to_dict()) == spec


@quick
@given(some.lists(some.lists(numbers, min_size=1, max_size=5), min_size=1, max_size=8))
def test_pieces_are_pooled_pair_by_pair(pieces: list[list[float]]) -> None:
    flat, counts = [value for own in pieces for value in own], [len(own) for own in pieces]
    np.testing.assert_allclose(pool_pieces(flat, counts, "chunk"), [min(own) for own in pieces])
    np.testing.assert_allclose(
        pool_pieces(flat, counts, "chunk-mean"), [sum(own) / len(own) for own in pieces], atol=1e-9
    )


@quick
@given(some.lists(some.integers(1, 1000), min_size=2, max_size=12), some.integers(1, 50))
def test_an_index_is_never_below_zero_and_zero_for_the_same_shares(
    counts: list[int], times: int
) -> None:
    shares = np.array(counts) / sum(counts)
    assert psi(shares, [100_000 * times * share for share in shares]) == pytest.approx(0, abs=1e-3)
    assert psi(shares, counts[::-1]) >= 0


@quick
@given(some.lists(some.tuples(texts, texts), max_size=12))
def test_rows_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    """Whatever is in a field; a row whose path or text can't be used says so, and no row is lost or
    moved but those of commas alone.
    """
    path = Path(tmp_path_factory.mktemp("rows")) / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = RowWriter(file)
        writer.writerow(("image_path", "text"))
        for row in rows:
            writer.writerow(row)
    rows = [row for row in rows if any(field.strip(" \t") for field in row)]
    try:
        found = list(read_rows(path, require_label=False))
    except MismatchError as error:
        assert "\0" in "".join(field for row in rows for field in row) or not rows, error  # noqa: PT017
        return
    assert [(row.image_path, row.text) for row in found if not row.problem] == [
        row for row, read in zip(rows, found, strict=True) if not read.problem
    ]


@quick
@given(texts)
def test_a_cell_that_is_made_harmless_is_no_formula_and_reads_back(cell: str) -> None:
    safe = str(harmless(cell))
    assert not safe.startswith(FORMULA) or NUMBER.fullmatch(safe)
    assert safe.removeprefix("'") == cell or safe == cell


@quick
@given(some.binary(max_size=200))
def test_base64_reads_back(data: bytes) -> None:
    assert from_base64(base64.b64encode(data).decode(), max_bytes=200) == data


@quick
@given(texts)
def test_words_and_phrases_lie_in_their_text_and_leave_the_rest_when_they_go(text: str) -> None:
    words = find_words(text)
    assert all(text[word.start : word.end] == word.text for word in words)
    assert all(a.end <= b.start for a, b in pairwise(words))
    for span in [*words, *find_phrases(text, words)]:
        left = without(text, [span])
        assert left != text
        assert len(left) <= len(text)


@quick
@given(texts, some.sampled_from(["red", "navy blue", "T-Shirt", "WOMEN", "two"]), texts)
def test_an_exchanged_word_changes_that_word_alone(before: str, word: str, after: str) -> None:
    text, lexicon = f"{before} {word} {after}", Lexicon()
    for found in lexicon.find(text):
        family = next(
            family
            for number, family in enumerate(lexicon.families[found.kind])
            if number != found.family
        )
        new = exchange(text, found, family[0])
        assert new.startswith(text[: found.start])
        assert new.endswith(text[found.end :])
        assert family[0] in new.lower()


@quick
@given(some.lists(texts, min_size=1, max_size=6))
def test_any_text_becomes_tokens_within_the_context(
    colour_engine: Any, given_texts: list[str]
) -> None:
    tokenizer = Tokenizer(colour_engine().text_spec)
    ids, cut = tokenizer.encode(given_texts)
    assert [len(row) <= tokenizer.spec.context_length for row in ids] == [True] * len(given_texts)
    assert len(cut) == len(given_texts)
    batch = tokenizer.pad(ids)
    assert batch.input_ids.shape == batch.attention_mask.shape
    assert math.prod(batch.input_ids.shape) == len(given_texts) * max(map(len, ids))


@quick
@given(some.binary(max_size=400))
def test_any_file_is_rows_or_one_line_of_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    for name in ("rows.csv", "rows.tsv", "rows.jsonl"):
        path = Path(tmp_path_factory.mktemp("rows")) / name
        path.write_bytes(b"image_path,text\n" + data if name == "rows.csv" else data)
        try:
            assert all(isinstance(row.text, str) for row in read_rows(path, require_label=False))
        except MismatchError as error:
            assert "\n" not in str(error)  # noqa: PT017
