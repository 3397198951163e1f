"""mismatch.data.readers.parquet_footer: pieces of columns as pyarrow has them; a damaged footer is an
error of the file and not the end of the process.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mismatch.data.readers.parquet_footer import read_chunks
from mismatch.data.readers.parquet_pages import PageError

EACH_BIT = """
import sys
from pathlib import Path
from mismatch.data.pairs import read_rows
from mismatch.errors import InputError
path = Path(sys.argv[1])
whole = path.read_bytes()
start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
for bit in range(8 * start, 8 * min(start + 64, len(whole) - 8)):
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    try:
        list(read_rows(path, require_label=True))
    except InputError:
        pass
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A Parquet file of three columns and two row groups."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(
        {"image_path": ["a.png", "b.png"], "text": ["red", None], "label": [1, 0]}
    )
    parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=1)
    return tmp_path / "rows.parquet"


@pytest.mark.parametrize("options", [{}, {"compression": "none", "use_dictionary": False}])
def test_the_pieces_are_those_that_pyarrow_finds(written: Path, options: dict[str, Any]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(parquet.read_table(written), written, row_group_size=1, **options)
    metadata = parquet.read_metadata(written)
    with written.open("rb") as file:
        found = read_chunks(file, groups=2, columns=3)
    for number, group in enumerate(found):
        for place, chunk in enumerate(group):
            other = metadata.row_group(number).column(place)
            start = other.dictionary_page_offset or other.data_page_offset
            assert (chunk.start, chunk.size) == (start, other.total_compressed_size)
            assert chunk.is_packed is (other.compression != "UNCOMPRESSED")
            assert len(chunk.encodings) == len(other.encodings)


def test_a_damaged_footer_is_a_page_error(written: Path) -> None:
    data = written.read_bytes()
    with pytest.raises(PageError, match="footer is damaged"):
        read_chunks(io.BytesIO(data), groups=2, columns=4)
    for cut in (b"\xff" * 20, b"\0" * 20):
        with pytest.raises(PageError):
            read_chunks(io.BytesIO(data[:-28] + cut + data[-8:]), groups=2, columns=9)


def test_no_bit_of_a_footer_ends_the_process(written: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EACH_BIT, written], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
