"""A file that is read twice says the same the second time, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.data.rows import Row
from mismatch.errors import InputError
from mismatch.jobs import split as split_job
from mismatch.jobs.same_rows import same_rows

ROWS = [Row(line, "a.png", "red", None, {}) for line in range(2, 6)]


def test_the_same_lines_are_the_same_rows() -> None:
    assert list(same_rows(ROWS, [{2, 5}, {3: "why", 4: "why"}], "rows.csv")) == ROWS
    for lines in ([{2, 3, 4}], [{2, 3, 4, 5, 6}], [{2}, {4, 5, 6}]):
        with pytest.raises(InputError, match=r"rows\.csv has other rows than when"):
            list(same_rows(ROWS, lines, "rows.csv"))


@pytest.mark.parametrize("to_files", [True, False])
@pytest.mark.parametrize("kept", [8, 13])
def test_a_file_that_is_written_while_it_is_split_is_refused(
    kept: int, to_files: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["image_path,text,label", *(f"{n}.png,text {n},{n % 2}" for n in range(12))]
    rows = tmp_path / "rows.csv"
    rows.write_text("\n".join([*lines[:11], ""]))
    assign = split_job._assign

    def meanwhile(*args: Any) -> Any:
        rows.write_text("\n".join([*lines[:kept], ""]))
        return assign(*args)

    monkeypatch.setattr(split_job, "_assign", meanwhile)
    output = tmp_path / "parts" if to_files else None
    with pytest.raises(InputError, match=r"rows\.csv has other rows than when"):
        mismatch.split(rows, output_dir=output, near_duplicates=False)
    assert not list(tmp_path.glob("parts/*"))
