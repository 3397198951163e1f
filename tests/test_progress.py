"""The bar is drawn on a terminal and nowhere else."""

from __future__ import annotations

import io
import sys

import pytest

from mismatch.cli.progress import progress_bar


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "drawn"), [(Terminal, True), (io.StringIO, False)])
def test_only_a_terminal_sees_it(monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], drawn: bool) -> None:
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
