"""mismatch.cli.output_file: a file is not written where a folder is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mismatch.cli import main
from mismatch.cli.output_file import OutputFile, names_folder

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
    result = CliRunner().invoke(main, [*args[:-1], f"{args[-1]}{end}"])
    assert result.exit_code == 2
    assert f"{args[-1]}{end} names a folder" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
