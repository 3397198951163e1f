"""The bar is drawn on a terminal; a pipe sees a line a minute, and nothing of what is quick."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import tqdm

from mismatch.cli import progress
from mismatch.cli.progress import progress_bar
from mismatch.progress import Advance, shown_by
from mismatch.progress import progress as reported


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Time that passes when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress, "monotonic", lambda: self.now)


@pytest.mark.parametrize(("stream", "drawn"), [(Terminal, True), (io.StringIO, False)])
def test_only_a_terminal_sees_it(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], drawn: bool
) -> None:
    err, out = stream(), Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(sys, "stdout", out)
    with progress_bar("check images", total=4, unit="image") as advance:
        advance(1)
        advance(3)
    assert ("check images" in err.getvalue()) is drawn
    assert drawn or err.getvalue() == ""
    assert out.getvalue() == ""


def test_it_is_wiped_away_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)

    def fail() -> None:
        with progress_bar("embed", total=2) as advance:
            advance(1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert err.getvalue().endswith("\r")


def test_a_note_stands_beside_the_bar_and_is_asked_for_once_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, err, asked = Clock(monkeypatch), Terminal(), list[float]()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(tqdm, "tqdm", partial(tqdm.tqdm, mininterval=0))

    def note() -> str:
        asked.append(clock.now)
        return f"loss {len(asked)}"

    with progress_bar("epoch 1/2", total=8, unit="row") as advance:
        for _ in range(8):
            advance(1, note)
            clock.now += 0.5
    assert asked == [1000.0, 1001.0, 1002.0, 1003.0]
    assert "| 1/8 [<00:00, loss 1]" in err.getvalue()
    assert ", loss 4]" in err.getvalue()


def in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, total: int | None, note: Callable[[], str] | None
) -> list[str]:
    """What stderr says of 150 steps of a second each."""
    clock, err = Clock(monkeypatch), io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    with progress_bar("epoch 1/2", total=total, unit="row") as advance:
        for _ in range(150):
            clock.now += 1
            advance(10, *([] if note is None else [note]))
    return err.getvalue().splitlines()


def test_a_pipe_sees_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def note() -> str:
        nonlocal asked
        asked += 1
        return "loss 0.3123, rate 8.2e-04, 9:30 left in all"

    lines = in_a_pipe(monkeypatch, 3000, note)
    assert lines == [
        f"epoch 1/2: {rows} of 3,000 rows, loss 0.3123, rate 8.2e-04, 9:30 left in all"
        for rows in ("600", "1,200")
    ]
    assert asked == 2


def test_without_a_note_the_line_says_how_long_it_will_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert in_a_pipe(monkeypatch, 3000, None) == [
        "epoch 1/2: 600 of 3,000 rows, 4.0 minutes left",
        "epoch 1/2: 1,200 of 3,000 rows, 3.0 minutes left",
    ]
    assert in_a_pipe(monkeypatch, None, None) == ["epoch 1/2: 600 rows", "epoch 1/2: 1,200 rows"]


def test_without_standard_error_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with progress_bar("check images", total=4, unit="image") as advance:
        advance(1)
        advance(3, lambda: "never asked for")


def test_a_job_reports_to_whoever_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[object] = []

    @contextmanager
    def bar(label: str, total: int | None, unit: str) -> Iterator[Advance]:
        seen.append((label, total, unit))
        yield lambda done, note=None: seen.append(done)

    with reported("alone") as advance:
        advance(1)
    with shown_by(bar), reported("score", 3, "row") as advance:
        advance(2)
    with reported("after") as advance:
        advance(1)
    assert seen == [("score", 3, "row"), 2]
    assert capsys.readouterr() == ("", "")
