"""mismatch.jobs.earlier_split: a table that a split leaves is never one whose images now stand on
another side.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image

from mismatch.data.columns import Columns
from mismatch.errors import InputError
from mismatch.jobs.earlier_split import is_earlier_split
from tests.support.commands import run

HEADER = "image_path,text,label"
NAMES = ["image_path", "text", "label"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with thirty rows, split in three."""
    monkeypatch.chdir(tmp_path)
    for number in range(30):
        Image.new("RGB", (8, 8), (number * 8, 0, 0)).save(f"{number}.png")
    Path("all.csv").write_text(
        "\n".join([HEADER, *(f"{number}.png,text {number},{number % 2}" for number in range(30))])
        + "\n"
    )
    assert split().exit_code == 0
    return tmp_path


def split(*args: str) -> Result:
    return run("split", "all.csv", "--output-dir", "s", "--no-near-duplicates", *args)


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path("s").iterdir())}


def test_an_earlier_test_set_goes_where_none_is_made(place: Path) -> None:
    result = split("--fractions", "0.8,0.2", "--overwrite")
    assert result.exit_code == 0
    assert sorted(contents()) == ["train.csv", "val.csv"]


def test_a_test_set_of_other_images_stays(place: Path) -> None:
    Path("s/test.csv").write_text(f"{HEADER}\nother.png,red,1\n")
    before = contents()["test.csv"]
    assert split("--fractions", "0.8,0.2", "--overwrite").exit_code == 0
    assert contents()["test.csv"] == before


@pytest.mark.parametrize("change", ["text", "columns", "chosen by hand"])
def test_a_test_set_that_may_be_somebodys_is_refused(place: Path, change: str) -> None:
    rows = Path("s/test.csv").read_text()
    made = {
        "text": rows + "0.png,mine,1\n",
        "columns": "image_path,note\n0.png,mine\n",
        "chosen by hand": Path("s/val.csv").read_text(),
    }
    Path("s/test.csv").write_text(made[change])
    before = contents()
    result = split("--fractions", "0.8,0.2", "--overwrite")
    assert result.exit_code == 2
    assert "s/test.csv" in result.stderr
    assert contents() == before


@pytest.mark.parametrize("name", ["train.csv", "val.csv", "test.csv", "rejected.csv"])
@pytest.mark.parametrize(
    "content",
    [
        "precious\n",
        "reason\nmine\n",
        f"{HEADER},notes\na.png,red,1,mine\n",
        "image_path,text\n",
        '{"reason": 1}\n',
    ],
)
def test_what_no_split_wrote_is_neither_replaced_nor_removed(
    place: Path, name: str, content: str
) -> None:
    Path("s", name).write_text(content)
    before = contents()
    result = split("--overwrite")
    assert result.exit_code == 2
    assert f"s/{name}" in result.stderr
    assert contents() == before


def test_the_input_itself_stays(place: Path) -> None:
    source, others = Path("s/test.csv"), [Path("s/train.csv"), Path("s/val.csv")]
    assert is_earlier_split(source, others, Path("all.csv"), NAMES, Columns())
    assert not is_earlier_split(source, others, source, NAMES, Columns())
    assert not is_earlier_split(Path("s/none.csv"), others, Path("all.csv"), NAMES, Columns())
    with pytest.raises(InputError, match="move it away"):
        is_earlier_split(source, [source], Path("all.csv"), NAMES, Columns())
