"""mismatch.cli.parts: what a command writes, no other writes until it is through."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from mismatch.cli.parts import hold, hold_score
from mismatch.errors import CheckpointError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_command_holds_no_other_writes_until_it_is_through(tmp_path: Path) -> None:
    with click.Context(click.Command("predict")):
        hold(tmp_path / "out.csv")
        with (
            pytest.raises(
                CheckpointError, match=r"out.csv: process \d+ on .* has been writing it since"
            ),
            click.Context(click.Command("predict")),
        ):
            hold(tmp_path / "out.csv")
    assert names(tmp_path) == []
    with click.Context(click.Command("split")):
        hold(tmp_path / "new" / "parts", folder=True)
        assert names(tmp_path / "new") == [".parts.lock"]


def test_a_model_is_held_by_what_changes_its_score(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with (
        click.Context(click.Command("calibrate")),
        pytest.raises(CheckpointError, match="neither a checkpoint nor a bundle"),
    ):
        hold_score(str(tmp_path / "model"))
    for name in ("manifest.json", ".manifest.json.0123abcd.part", ".head.onnx.0123abcd.part"):
        (tmp_path / "model" / name).write_text("")
    with click.Context(click.Command("calibrate")):
        hold_score(str(tmp_path / "model"))
        assert names(tmp_path) == [".model.lock", "model"]
    assert names(tmp_path / "model") == [".head.onnx.0123abcd.part", "manifest.json"]
