"""mismatch.data.audit.clean: each row is fit or has a reason, and none is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from mismatch.data.audit.clean import split_usable_rows
from mismatch.errors import InputError

ROWS = """image_path,text,label,sku
a.jpg,red,1,1
a.jpg,blue,0,2
a.jpg,red,1,3
b.jpg,red,1,4
b.jpg,red,0,5
c.jpg,,1,6
d.jpg,green,2,7
e.jpg,grey,1,8
f.jpg,grey,1,9
"""


def test_reasons(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    broken, leaked = (
        {str(tmp_path / "e.jpg"): InputError("e.jpg is truncated")},
        {str(tmp_path / "f.jpg"): "test.csv"},
    )
    found = [
        (row.columns["sku"], reason)
        for row, reason in split_usable_rows(
            tmp_path / "rows.csv", tmp_path, broken=broken, leaked=leaked
        )
    ]
    assert found == [
        ("1", None),
        ("2", None),
        ("3", "repeats line 2: same image, text and label"),
        ("4", "the same image and text stand once as match and once as mismatch"),
        ("5", "the same image and text stand once as match and once as mismatch"),
        ("6", "the text is empty"),
        ("7", "label '2' is neither 0 nor 1 (1 = the text describes the image)"),
        ("8", "e.jpg is truncated"),
        ("9", "its image, or a near-duplicate, stands in test.csv"),
    ]


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("image_path,text\na.jpg,red\n")
    with pytest.raises(InputError, match=r"rows\.csv:1: column 'label' is missing"):
        list(split_usable_rows(tmp_path / "rows.csv", tmp_path, broken={}))
