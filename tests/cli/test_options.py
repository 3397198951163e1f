"""mismatch.cli.options: what several verbs take."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.paths import BUNDLE

HUB_ROWS = "hf://datasets/nobody"  # without a name, so that nothing is asked


@pytest.mark.parametrize(
    "words",
    [
        ["validate", HUB_ROWS],
        ["split", HUB_ROWS, "--output-dir", "parts"],
        ["make-negatives", HUB_ROWS, "--output", "out.csv"],
        ["fetch", HUB_ROWS, "--output", "images"],
        ["convert", "--csv", HUB_ROWS, "--output", "out.csv"],
        ["predict", "--model", BUNDLE, "--csv", HUB_ROWS, "--output", "out.csv"],
        ["evaluate", "--model", BUNDLE, "--csv", HUB_ROWS],
        ["explain", "--model", BUNDLE, "--csv", HUB_ROWS],
        ["audit-labels", "--model", BUNDLE, "--csv", HUB_ROWS, "--output", "out.csv"],
        ["calibrate", "--model", BUNDLE, "--csv", HUB_ROWS],
        ["tune-threshold", "--model", BUNDLE, "--csv", HUB_ROWS],
        ["benchmark", "--model", BUNDLE, "--csv", HUB_ROWS],
        ["train", "--train-csv", HUB_ROWS, "--backbone", "openclip", "--output-dir", "model"],
    ],
)
def test_every_verb_takes_rows_of_the_hub(
    words: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == 2
    assert f"'{HUB_ROWS}' names no rows on a hub; write hf://datasets/OWNER/NAME" in result.stderr
