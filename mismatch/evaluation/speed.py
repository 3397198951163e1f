"""How fast models are on this machine: towers, one pair, a whole job, a start. They take turns, so
that ratios hold where absolute rates drift.
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mismatch.data.pairs import Columns, Row
from mismatch.errors import CheckpointError, InputError
from mismatch.evaluation.machine import machine
from mismatch.evaluation.timing import Advance, Call, in_turns, seconds_of_one, seconds_per_call
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.tokenize import TokenBatch

__all__ = ["BenchmarkPlan", "Contender", "first_score", "measure", "photo", "title_ids", "turns"]

TITLE = "Red leather handbag with gold clasp"
TITLE_TOKENS = 12  # of a product title, special ones included
PHOTO_SIDE = 224  # pixels
PAIR_RUNS = 50  # of one pair, at least, all turns together
PERCENTILES = (50, 95, 99)
STARTS = 3  # new processes for each model, at most

# Prints a line once there is a score, and then what the system says of the process.
START = """
import sys
import mismatch
model, provider, threads, image, text = sys.argv[1:]
mismatch.load(model, provider, int(threads) or None).predict(image, text)
print("scored", flush=True)
try:
    with open("/proc/self/status") as file:
        print(file.read())
except OSError:
    pass
"""


@dataclass(frozen=True)
class Contender:
    """A model that takes part."""

    model: str  # as mismatch.load takes it
    predictor: Predictor


@dataclass(frozen=True)
class BenchmarkPlan:
    """What is measured, and how often."""

    batch_sizes: tuple[int, ...] = (1, 4, 16, 64)  # items a tower call
    repeats: int = 5  # turns of each model, after one that warms it up
    provider: str = "auto"  # of the new processes
    threads: int | None = None  # likewise
    rows: tuple[Row, ...] = ()  # of the whole job, which is left out where there are none
    csv: str = ""  # where they come from
    image_base_path: str = ""


def measure(
    contenders: Sequence[Contender], plan: BenchmarkPlan, advance: Advance = lambda done: None
) -> dict[str, Any]:
    """Return all figures, ready for JSON; each table has a figure a model in each row, and its
    ratio to the first model's.
    """
    return {
        "machine": machine(),
        "models": [
            {
                "letter": letter,
                "model": contender.model,
                "engine": contender.predictor.engine.describe(),
            }
            for letter, contender in zip(_letters(), contenders, strict=False)
        ],
        "settings": {
            "batch_sizes": list(plan.batch_sizes),
            "repeats": plan.repeats,
            "provider": plan.provider,
            "threads": plan.threads,
            "csv": plan.csv,
        },
        "tables": [
            _image_tower(contenders, plan, advance),
            _text_tower("a title", contenders, [TITLE_TOKENS] * len(contenders), plan, advance),
            _text_tower(
                "the whole context",
                contenders,
                [contender.predictor.engine.text_spec.context_length for contender in contenders],
                plan,
                advance,
            ),
            _one_pair(contenders, plan, advance),
            *([_whole_job(contenders, plan, advance)] if plan.rows else []),
            _start_up(contenders, plan, advance),
        ],
    }


def turns(models: int, plan: BenchmarkPlan) -> int:
    """Return how many turns `measure` reports."""
    cases = 3 * len(plan.batch_sizes) + 1 + bool(plan.rows)
    return models * (cases * (plan.repeats + 1) + min(plan.repeats, STARTS))


def _image_tower(
    contenders: Sequence[Contender], plan: BenchmarkPlan, advance: Advance
) -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def call(contender: Contender, batch: int) -> Call:
        engine = contender.predictor.engine
        pixels = rng.standard_normal(
            (batch, 3, engine.image_spec.size, engine.image_spec.size), dtype=np.float32
        )
        return lambda: engine.encode_images(pixels)

    return _table(
        "image tower",
        "batch",
        "items/s",
        _rates(plan, advance, lambda batch: [call(contender, batch) for contender in contenders]),
    )


def _text_tower(
    what: str,
    contenders: Sequence[Contender],
    tokens: Sequence[int],
    plan: BenchmarkPlan,
    advance: Advance,
) -> dict[str, Any]:
    """Measure the text tower; `tokens`: of a text, for each model."""

    def ids(batch: int) -> list[TokenBatch]:
        return [
            title_ids(contender.predictor, count, batch)
            for contender, count in zip(contenders, tokens, strict=True)
        ]

    def call(contender: Contender, texts: TokenBatch) -> Call:
        return lambda: contender.predictor.engine.encode_texts(
            texts.input_ids, texts.attention_mask
        )

    name = f"text tower, {what} ({_lengths([texts.input_ids.shape[1] for texts in ids(1)])} tokens)"
    return _table(
        name,
        "batch",
        "items/s",
        _rates(plan, advance, lambda batch: list(map(call, contenders, ids(batch)))),
    )


def _rates(
    plan: BenchmarkPlan, advance: Advance, calls: Callable[[int], Sequence[Call]]
) -> Iterator[tuple[str, list[float]]]:
    """Yield for each batch size the items a second of each model; `calls` makes the tower calls of
    a batch size.
    """
    for batch in plan.batch_sizes:
        seconds = in_turns(
            [partial(seconds_per_call, call) for call in calls(batch)], plan.repeats, advance
        )
        yield str(batch), [batch / statistics.median(times) for times in seconds]


def title_ids(predictor: Predictor, tokens: int, batch: int) -> TokenBatch:
    """Return `batch` times a text of as many tokens, as the model's own tokenizer makes and pads
    them.
    """
    tokenizer = predictor.pipeline.tokenizer
    [ids], _ = tokenizer.encode([" ".join([TITLE] * tokenizer.spec.context_length)])
    # the last one may mark the end
    ids = ids if len(ids) <= tokens else [*ids[: tokens - 1], ids[-1]]
    return tokenizer.pad([ids] * batch, step=predictor.engine.length_step)


def photo() -> bytes:
    """Make a JPEG of `PHOTO_SIDE` pixels, about as hard to decode as a product photo."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8)).resize(
        (PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(coarse, np.float32) + rng.normal(0, 4, (PHOTO_SIDE, PHOTO_SIDE, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def _one_pair(
    contenders: Sequence[Contender], plan: BenchmarkPlan, advance: Advance
) -> dict[str, Any]:
    image = photo()
    runs = -(-PAIR_RUNS // plan.repeats)

    def turn(contender: Contender) -> list[float]:
        # not timed, as in `seconds_per_call`
        if (prediction := contender.predictor.predict(image, TITLE)).similarity_score is None:
            raise CheckpointError(f"{contender.model}: {prediction.status}")
        return [
            seconds_of_one(lambda: contender.predictor.predict(image, TITLE)) for _ in range(runs)
        ]

    times = in_turns([partial(turn, contender) for contender in contenders], plan.repeats, advance)
    values = np.array(times).reshape(len(contenders), -1) * 1000  # (models, runs) milliseconds
    name = f"one warm pair: a JPEG of {PHOTO_SIDE} pixels and a title, {values.shape[1]} runs"
    return _table(
        name,
        "percentile",
        "ms",
        (
            (f"p{level}", [float(value) for value in np.percentile(values, level, axis=1)])
            for level in PERCENTILES
        ),
    )


def _whole_job(
    contenders: Sequence[Contender], plan: BenchmarkPlan, advance: Advance
) -> dict[str, Any]:
    """Measure rows to scores, as `mismatch predict` makes them."""
    columns = Columns()  # images may lie anywhere

    def turn(contender: Contender) -> tuple[float, int]:
        start = time.perf_counter()
        predictions = contender.predictor.predict_rows(
            plan.rows, image_base_path=plan.image_base_path, columns=columns
        )
        scored = sum(prediction.similarity_score is not None for _, prediction in predictions)
        seconds = time.perf_counter() - start
        if not scored:
            raise InputError(
                f"{plan.csv}: not one of its first {len(plan.rows):,} rows could be scored;"
                " mismatch validate says why row by row"
            )
        return seconds, scored

    turns_of_each = in_turns(
        [partial(turn, contender) for contender in contenders], plan.repeats, advance
    )
    rates = [
        statistics.median(scored / seconds for seconds, scored in turns) for turns in turns_of_each
    ]
    failed = len(plan.rows) - min(scored for turns in turns_of_each for _, scored in turns)
    different = (
        f"{len({row.image_path for row in plan.rows}):,} different images,"
        f" {len({row.text for row in plan.rows}):,} different texts"
    )
    name = f"whole job: {plan.csv}, {different}" + (f", {failed:,} unscorable" if failed else "")
    return _table(name, "rows", "pairs/s", [(f"{len(plan.rows):,}", rates)])


def _start_up(
    contenders: Sequence[Contender], plan: BenchmarkPlan, advance: Advance
) -> dict[str, Any]:
    """Measure without warm-up: each model's files have just been read."""
    seconds: list[list[float]] = [[] for _ in contenders]
    peaks: list[list[float | None]] = [[] for _ in contenders]
    for _ in range(min(plan.repeats, STARTS)):
        for contender, times, memory in zip(contenders, seconds, peaks, strict=True):
            passed, peak = first_score(contender.model, plan.provider, plan.threads)
            times.append(passed)
            memory.append(peak)
            advance(1)
    rows: list[tuple[str, Sequence[float | None]]] = [
        ("first score, s", [statistics.median(times) for times in seconds]),
        ("peak memory, MB", [_median(memory) for memory in peaks]),
        ("model folder, MB", [_megabytes(contender.model) for contender in contenders]),
    ]
    return _table(
        "start: a new process, from nothing to the first score",
        "figure",
        "",
        (row for row in rows if any(value is not None for value in row[1])),
    )


def first_score(model: str, provider: str, threads: int | None) -> tuple[float, float | None]:
    """Return the seconds from the start of a new process to its first score, and its peak memory in
    MB, where the system tells.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        image = Path(folder) / "photo.jpg"
        image.write_bytes(photo())
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", START, model, provider, str(threads or 0), str(image), TITLE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:
            try:
                scored = any(line == "scored\n" for line in process.stdout or ())
                seconds = time.perf_counter() - start
                status = process.stdout.read() if process.stdout else ""
            except BaseException:
                process.kill()
                raise
        if not scored:
            errors.seek(0)
            [*_, last] = [
                "it ended early",
                *errors.read().decode(errors="replace").split("\n")[-2:-1],
            ]
            raise CheckpointError(f"{model} gave no score in a new process: {last}")
    return seconds, _peak(status)


def _peak(status: str) -> float | None:
    """Map /proc/self/status → the peak memory in MB; None where it isn't there."""
    kilobytes = next(
        (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), None
    )
    return None if kilobytes is None else int(kilobytes) * 1024 / 1e6


def _megabytes(model: str) -> float | None:
    """Return the MB of a model's folder; None for one that is only a name."""
    folder = Path(model)
    return (
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        if folder.is_dir()
        else None
    )


def _median(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return statistics.median(numbers) if numbers else None


def _table(name: str, case: str, unit: str, rows: Any) -> dict[str, Any]:
    """Make a table; `rows`: what a row is called, and a figure a model."""
    return {
        "name": name,
        "case": case,
        "unit": unit,
        "rows": [
            {"case": label, "figures": list(figures), "ratios": _ratios(figures)}
            for label, figures in rows
        ],
    }


def _ratios(figures: Sequence[float | None]) -> list[float | None]:
    first = figures[0]
    return [value / first if value is not None and first else None for value in figures]


def _lengths(lengths: Sequence[int]) -> str:
    """Return one number where all agree, else one a letter."""
    if len(set(lengths)) == 1:
        return str(lengths[0])
    return ", ".join(
        f"{letter} {length}" for letter, length in zip(_letters(), lengths, strict=False)
    )


def _letters() -> Iterator[str]:
    """Yield A, B, …, Z, A1, B1, …"""
    yield from (chr(ord("A") + i % 26) + (str(i // 26) if i >= 26 else "") for i in range(10**6))
