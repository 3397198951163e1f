"""`mismatch export-onnx`: the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mismatch.cli import main


def run(*args: object) -> Any:
    return CliRunner().invoke(main, ["export-onnx", *map(str, args)], prog_name="mismatch")


def test_it_verifies_on_real_rows_and_says_so(tiny_checkpoints: dict[str, Path], colour_images: Path, write_rows: Any, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.csv", [("image_path", "text"), ("red.png", "red shirt"), ("blue.png", "a blue bag"), ("absent.png", "red")])
    result = run("--model", tiny_checkpoints["openclip"], "--output", tmp_path / "bundle", "--verify_csv", rows, "--image_base_path", colour_images)
    assert result.exit_code == 0, result.output
    assert "rows.csv: 2 pairs: scores differ by at most" in result.stdout
    assert "0 decisions flipped" in result.stdout
    assert "1 rows could be scored by neither" in result.stdout
    assert (tmp_path / "bundle" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model", "BUNDLE"], "is a bundle already"),
        (["--model", "nowhere"], "nowhere"),
        (["--model", "CHECKPOINT", "--verify-csv", "absent.csv"], "absent.csv"),
        (["--model", "CHECKPOINT", "--precision", "int3"], "int3"),
    ],
)
def test_what_it_refuses(tiny_checkpoints: dict[str, Path], tiny_bundles: dict[str, Path], tmp_path: Path, args: list[str], words: str) -> None:
    names = {"BUNDLE": tiny_bundles["openclip"], "CHECKPOINT": tiny_checkpoints["openclip"]}
    result = run(*(names.get(arg, arg) for arg in args), "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "out").exists()
