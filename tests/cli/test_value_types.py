"""mismatch.cli.value_types: what is no number that a command could use is refused in one line,
before any work; and so is a file that is named as a folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

import mismatch
from mismatch.cli import command_paths, main
from mismatch.cli.value_types import FINITE, THREADS, FiniteRange, OutputFile, Parsed, numbers
from mismatch.data.negatives import make_negatives
from mismatch.errors import InputError
from mismatch.evaluation.objectives import Objective
from mismatch.io.text import names_folder
from mismatch.runtime.hardware import MAX_THREADS
from mismatch.specs import ReviewBand
from mismatch.training.config import TrainConfig
from tests.support.commands import run

MODEL = ("--model", "none", "--csv", "rows.csv")
WRONG = [
    ("calibrate", *MODEL, "--seed", "-1"),
    ("calibrate", *MODEL, "--level", "nan"),
    ("calibrate", *MODEL, "--num-workers", "1000000"),
    ("tune-threshold", *MODEL, "--seed", "-1"),
    ("tune-threshold", *MODEL, "--shrinkage", "nan"),
    ("tune-threshold", *MODEL, "--shrinkage", "inf"),
    ("tune-threshold", *MODEL, "--thresholds", "0.1,nan"),
    ("tune-threshold", *MODEL, "--thresholds", "1e400"),
    ("tune-threshold", *MODEL, "--max-risk", "nan"),
    ("tune-threshold", *MODEL, "--objective", "cost", "--cost-miss", "1e400"),
    ("tune-threshold", *MODEL, "--objective", "cost", "--cost-false-alarm", "nan"),
    ("make-negatives", "rows.csv", "--output", "o.csv", "--seed", "-1"),
    ("make-negatives", "rows.csv", "--output", "o.csv", "--seed", str(2**70)),
    ("audit-labels", *MODEL, "--output", "o.csv", "--seed", str(2**70)),
    ("evaluate", *MODEL, "--seed", str(2**70)),
    ("predict", *MODEL, "--threads", "1000000"),
    ("predict", *MODEL, "--review-band", "0,1e400"),
    ("predict", *MODEL, "--review-band", "nan,1"),
    ("predict", *MODEL, "--review-band=-inf,1"),
    ("benchmark", "--model", "none", "--threads", "1000000"),
    ("export-onnx", "--model", "none", "--output", "o", "--threads", "1000000"),
    ("export-onnx", "--model", "none", "--output", "o", "--max-flips", "nan"),
    ("serve", "--model", "none", "--threads", "1000000"),
    ("serve", "--model", "none", "--deadline", "inf"),
    ("split", "rows.csv", "--output-dir", "o", "--fractions", "nan,1"),
    ("split", "rows.csv", "--output-dir", "o", "--fractions", "0.8,nan"),
    ("split", "rows.csv", "--output-dir", "o", "--fractions", "inf,1"),
    ("split", "rows.csv", "--output-dir", "o", "--fractions", "1e308,1e308"),
    ("validate", "rows.csv", "--num-workers", "1000000"),
]


@pytest.mark.parametrize("args", WRONG, ids=" ".join)
def test_it_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("image_path,text,label\na.png,red,1\n")
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert "'none'" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize("share", [float("nan"), float("inf"), -1.0])
def test_shares_of_mismatches_are_numbers(share: float) -> None:
    for shares in (
        {"random": share},
        {"random": 1.0, "hard": share},
        {"hard": share, "random": 1.0},
    ):
        with pytest.raises(InputError, match="share"):
            make_negatives(["red", "blue"], [0, 1], shares=shares)


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), 1e300, 0.0, -1.0])
def test_costs_are_numbers(cost: float) -> None:
    with pytest.raises(InputError, match="costs"):
        Objective("cost", cost, 1.0)
    with pytest.raises(InputError, match="costs"):
        Objective("cost", 1.0, cost)


def test_a_band_has_two_ends() -> None:
    for low, high in ((0, float("inf")), (float("-inf"), 1), (float("nan"), 1), (1, 0)):
        with pytest.raises(InputError, match="review band"):
            ReviewBand(low, high)


@pytest.mark.parametrize("threads", [0, -1, MAX_THREADS + 1, 10**6])
def test_threads_are_bounded_from_python_too(tmp_path: Path, threads: int) -> None:
    with pytest.raises(InputError, match="threads"):
        mismatch.load(tmp_path, threads=threads)
    with pytest.raises(InputError, match="threads"):
        TrainConfig(train_csv="a.csv", output_dir="o", threads=threads)


def test_a_range_lets_no_nan_pass() -> None:
    assert FiniteRange(0, 1).convert("0.5", None, None) == 0.5
    for wrong in ("nan", "inf", "1e400", "-inf", "x"):
        for kind in (FINITE, FiniteRange(0), FiniteRange(0, 1)):
            with pytest.raises(click.BadParameter):
                kind.convert(wrong, None, None)


def test_a_list_of_numbers_is_finite() -> None:
    assert numbers("0.8, 1,-2e1", "1,2") == (0.8, 1.0, -20.0)
    for wrong in ("", "1,,2", "1;2", "nan,1", "1,inf", "1e400"):
        with pytest.raises(ValueError, match="is not a list of numbers, as 1,2"):
            numbers(wrong, "1,2")


def test_no_option_is_an_unbounded_number() -> None:
    """All take such a type, but thresholds, which are checked against the model's scale, and
    shares, which are checked with the objective.
    """
    for path in command_paths():
        command: Any = main
        for name in path:
            command = command.get_command(click.Context(command), name)
        for param in command.params:
            if isinstance(param.type, click.FloatRange):
                assert isinstance(param.type, FiniteRange), (path, param.name)
            if param.name == "threads" and path != ("train",):
                assert param.type is THREADS, path


FOLDERS = ("q.csv/", "q.csv//", "q.csv/.", "q.csv/..", "./q.csv/")


@pytest.mark.parametrize("name", FOLDERS)
def test_such_a_name_is_a_folders(name: str) -> None:
    assert names_folder(name)
    assert not names_folder("q.csv")
    assert not names_folder("q.")
    assert OutputFile().convert("a/q.csv", None, None) == Path("a/q.csv")


@pytest.mark.parametrize(
    "args",
    [
        ("predict", "--model", "none", "--csv", "rows.csv", "--output", "q.csv"),
        ("make-negatives", "rows.csv", "--output", "q.csv"),
        ("validate", "rows.csv", "--fix", "q.csv"),
        ("validate", "rows.csv", "--report", "q.json"),
        ("audit-labels", "--model", "none", "--csv", "rows.csv", "--output", "q.csv"),
        (
            "audit-labels",
            "--model",
            "none",
            "--csv",
            "rows.csv",
            "--output",
            "o.csv",
            "--report",
            "q.html",
        ),
        ("benchmark", "--model", "none", "--json", "q.json"),
        ("explain", "--model", "none", "--csv", "rows.csv", "--output", "q.json"),
    ],
)
@pytest.mark.parametrize("end", ["/", "/."])
def test_every_command_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], end: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("image_path,text,label\na.png,red,1\n")
    result = run(*args[:-1], f"{args[-1]}{end}")
    assert result.exit_code == 2
    assert f"{args[-1]}{end} names a folder" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_a_word_is_what_a_function_makes_of_it() -> None:
    number = Parsed("number", int)
    assert number.convert("3", None, None) == 3
    assert number.convert((3,), None, None) == (3,), "a default is no word"
    with pytest.raises(click.BadParameter, match="invalid literal"):
        number.convert("three", None, None)
