"""The measuring behind `mismatch benchmark`: turns, what each model is given, and new processes. No
time is asserted.
"""

from __future__ import annotations

import math
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mismatch
from mismatch.data.pairs import Row
from mismatch.errors import CheckpointError, InputError
from mismatch.evaluation import machine as machine_module
from mismatch.evaluation import speed, timing
from mismatch.evaluation.machine import machine
from mismatch.evaluation.speed import (
    BenchmarkPlan,
    Contender,
    first_score,
    measure,
    photo,
    title_ids,
    turns,
)
from mismatch.evaluation.timing import in_turns, seconds_per_call
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.preprocess import open_image

PLAN = BenchmarkPlan(batch_sizes=(1, 3), repeats=2)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No turn is stretched, and no process started."""
    monkeypatch.setattr(timing, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(speed, "first_score", lambda model, provider, threads: (1.5, None))


def rows(*pairs: tuple[str, str]) -> tuple[Row, ...]:
    return tuple(Row(i, image, text, None, {}) for i, (image, text) in enumerate(pairs, start=2))


def test_runs_take_turns_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []
    counts = {"a": 0, "b": 0}
    told: list[int] = []

    def run(name: str) -> Callable[[], int]:
        def one() -> int:
            order.append(name)
            counts[name] += 1
            return counts[name]

        return one

    assert in_turns([run("a"), run("b")], 3, told.append) == [[2, 3, 4], [2, 3, 4]]
    assert "".join(order) == "ab" * 4
    assert told == [1] * 8


def test_what_is_quick_is_called_until_the_turn_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def call(seconds: list[float]) -> Callable[[], None]:
        calls = iter(seconds)

        def run() -> None:
            now[0] += next(calls)

        return run

    assert seconds_per_call(call([0.5])) == 0.5  # long: once
    # the first one is not in the mean
    assert seconds_per_call(call([0.11, *[0.05] * 4])) == pytest.approx(0.05)


def test_every_table_has_a_figure_and_a_ratio_for_each_model(
    quick: None, colour_engine: Any, colour_images: Path
) -> None:
    engines = [colour_engine(), colour_engine(padding="context")]
    contenders = [
        Contender(name, Predictor(engine)) for name, engine in zip("mn", engines, strict=True)
    ]
    job = rows(
        ("red.png", "red shirt"),
        ("red.png", "blue bag"),
        ("blue.png", "blue bag"),
        ("absent.png", "red"),
    )
    told: list[int] = []
    plan = replace(PLAN, rows=job, csv="rows.csv", image_base_path=str(colour_images))
    results = measure(contenders, plan, told.append)
    assert sum(told) == turns(2, plan)
    assert [(one["letter"], one["model"], one["engine"]) for one in results["models"]] == [
        ("A", "m", {"engine": "numpy cpu"}),
        ("B", "n", {"engine": "numpy cpu"}),
    ]
    assert [
        (table["name"], table["unit"], [row["case"] for row in table["rows"]])
        for table in results["tables"]
    ] == [
        ("image tower", "items/s", ["1", "3"]),
        ("text tower, a title (6 tokens)", "items/s", ["1", "3"]),
        ("text tower, the whole context (6 tokens)", "items/s", ["1", "3"]),
        ("one warm pair: a JPEG of 224 pixels and a title, 50 runs", "ms", ["p50", "p95", "p99"]),
        (
            "whole job: rows.csv, 3 different images, 3 different texts, 1 unscorable",
            "pairs/s",
            ["4"],
        ),
        # no /proc, no folder
        ("start: a new process, from nothing to the first score", "", ["first score, s"]),
    ]
    for table in results["tables"]:
        for row in table["rows"]:
            assert len(row["figures"]) == 2
            assert all(math.isfinite(value) and value > 0 for value in row["figures"])
            assert row["ratios"] == [1.0, row["figures"][1] / row["figures"][0]]
    assert set(engines[0].image_batches) >= {1, 3}
    assert set(engines[0].text_shapes) >= {(1, 6), (3, 6)}


def test_without_rows_there_is_no_job(quick: None, colour_engine: Any) -> None:
    told: list[int] = []
    results = measure([Contender("m", Predictor(colour_engine()))], PLAN, told.append)
    assert not any("job" in table["name"] for table in results["tables"])
    assert sum(told) == turns(1, PLAN)
    assert all(row["ratios"] == [1.0] for table in results["tables"] for row in table["rows"])


def test_a_job_that_can_not_be_done_is_refused(
    quick: None, colour_engine: Any, colour_images: Path
) -> None:
    plan = replace(
        PLAN,
        rows=rows(("absent.png", "red"), ("lie.jpg", "red")),
        csv="rows.csv",
        image_base_path=str(colour_images),
    )
    with pytest.raises(
        InputError,
        match=(
            r"^rows.csv: not one of its first 2 rows could be scored; mismatch validate says why"
            r" row by row$"
        ),
    ):
        measure([Contender("m", Predictor(colour_engine()))], plan)


def test_a_model_that_gives_no_number_is_refused(quick: None, colour_engine: Any) -> None:
    engine = colour_engine()
    engine.logits = lambda images, texts: np.full(len(images), np.nan, np.float32)
    with pytest.raises(CheckpointError, match=r"^broken: the model gave no number"):
        measure([Contender("broken", Predictor(engine))], PLAN)


def test_models_of_other_contexts_say_their_lengths(quick: None, colour_engine: Any) -> None:
    longer = colour_engine()
    longer.text_spec = replace(longer.text_spec, context_length=20)
    names = [
        table["name"]
        for table in measure(
            [Contender("m", Predictor(colour_engine())), Contender("n", Predictor(longer))], PLAN
        )["tables"]
    ]
    assert names[1:3] == [
        "text tower, a title (A 6, B 12 tokens)",
        "text tower, the whole context (A 6, B 20 tokens)",
    ]


@pytest.mark.parametrize("step", [1, 8])
def test_a_title_is_as_long_as_asked_for_and_ends_as_the_tokenizer_ends_texts(
    tiny_bundles: dict[str, Path], family: str, step: int
) -> None:
    predictor = mismatch.load(tiny_bundles[family], "cpu", 1)
    predictor.engine.length_step = step
    [real], _ = predictor.pipeline.tokenizer.encode(["red bag"])
    for tokens in (12, 77):
        batch = title_ids(predictor, tokens, 3)
        assert (
            batch.input_ids.shape
            == batch.attention_mask.shape
            == (3, min(-(-tokens // step) * step, 77))
        )
        assert batch.attention_mask.sum(axis=1).tolist() == [tokens] * 3
        assert (batch.input_ids[0, 0], batch.input_ids[0, tokens - 1]) == (real[0], real[-1])
        assert (batch.input_ids == batch.input_ids[0]).all()


def test_the_photo_is_a_jpeg_that_is_the_same_every_time() -> None:
    assert photo() == photo()
    assert photo()[:2] == b"\xff\xd8"
    assert open_image(photo()).size == (224, 224)


@pytest.mark.parametrize(
    ("text", "cpu", "instructions"),
    [
        (
            "processor : 0\nmodel name : Some CPU\nflags : fpu avx2 avx512_vnni\n\nprocessor : 1\n",
            "Some CPU",
            ["avx2", "avx512_vnni"],
        ),
        ("processor : 0\nFeatures : fp asimddp i8mm\n", None, ["asimddp", "i8mm"]),
        (None, None, []),
    ],
    ids=["x86-64", "Arm", "no /proc"],
)
def test_the_machine(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    text: str | None,
    cpu: str | None,
    instructions: list[str],
) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine_module, "CPUINFO", tmp_path / "cpuinfo")
    found = machine()
    assert found["cpu"] == cpu if cpu else found["cpu"]
    assert found["instructions"] == instructions
    assert found["cpus"] >= 1


def test_a_new_process_scores_and_tells_its_memory(tiny_bundles: dict[str, Path]) -> None:
    seconds, peak = first_score(str(tiny_bundles["openclip"]), "cpu", 1)
    assert math.isfinite(seconds)
    assert seconds > 0
    assert (peak is not None) == Path("/proc/self/status").is_file()
    assert peak is None or 10 < peak < 100_000


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=(
            r"nothing gave no score in a new process: mismatch\.errors\.CheckpointError: model"
            r" folder .*nothing not found"
        ),
    ):
        first_score(str(tmp_path / "nothing"), "cpu", None)


def test_a_process_that_ends_without_a_word_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "START", "print('hello')")
    with pytest.raises(
        CheckpointError, match=r"^m gave no score in a new process: it ended early$"
    ):
        first_score("m", "cpu", None)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no timers here")
def test_an_interrupt_leaves_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[Any] = []
    real = subprocess.Popen

    def popen(*args: Any, **options: Any) -> Any:
        started.append(real(*args, **options))
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        return started[-1]

    monkeypatch.setattr(speed, "START", "import time; time.sleep(600)")
    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            first_score("m", "cpu", None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [process.poll() is not None for process in started] == [True]
    assert list(tmp_path.iterdir()) == []
