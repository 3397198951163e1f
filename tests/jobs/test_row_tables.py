"""mismatch.jobs.row_tables: the name decides the format wherever rows are written, and nothing that
is rejected is lost.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mismatch.data.pairs import read_rows
from mismatch.errors import InputError
from mismatch.jobs.row_tables import check_table, rejected_header, row_table
from tests.support.commands import run
from tests.support.rows import write_rows

NAMES = ["out.csv", "out.tsv", "out.jsonl", "out.JSON", "out.parquet", "out"]
ROWS = [("a.jpg", 'red, "big"\r\nbag\t;', 1), ("b.jpg", "", 0), ("c.jpg", "=é", 1)]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images 0.png to 5.png, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        Image.effect_noise((32, 32), 20 * number + 20).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_again_as_its_name_says(tmp_path: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    with row_table(path, ("image_path", "text", "label")) as table:
        for row in ROWS:
            table.writerow(row)
    found = [
        (row.image_path, row.text, int(row.columns["label"]))
        for row in read_rows(path, require_label=True)
    ]
    assert found == ROWS
    assert path.read_bytes().startswith(
        {".tsv": b"image_path\t", ".jsonl": b"{", ".JSON": b"{", ".parquet": b"PAR1"}.get(
            path.suffix, b"image_path,"
        )
    )


def test_no_rows_are_a_table_too(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with row_table(tmp_path / "out.parquet", ("image_path", "text")):
        pass
    assert list(read_rows(tmp_path / "out.parquet", require_label=False)) == []


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_numbers_where_the_format_has_them(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    numbers = {"rank": int, "share": float}
    with row_table(path, ("text", "rank", "share"), numbers=numbers) as table:
        table.writerow(("7", 1, 1 / 3))
        table.writerow(("a", None, None))
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        found = parquet.read_table(path).to_pylist()
    elif path.suffix.lower() in (".jsonl", ".json"):
        found = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        separator = "\t" if path.suffix == ".tsv" else ","
        lines = [line.split(separator) for line in path.read_text().splitlines()]
        assert lines == [["text", "rank", "share"], ["7", "1", "0.333333333"], ["a", "", ""]]
        return
    assert found == [
        {"text": "7", "rank": 1, "share": 1 / 3},
        {"text": "a", "rank": None, "share": None},
    ]


def test_a_block_that_fails_leaves_no_table(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for name in NAMES:
        with pytest.raises(KeyError), row_table(tmp_path / name, ("a",)):
            raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_only_spreadsheets_run_formulas(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`safe_csv` goes with CSV"):
        check_table(tmp_path / "out.jsonl", safe=True)
    assert check_table(tmp_path / "out.tsv", safe=True) == "tsv"


def test_columns_of_a_file_that_was_rejected_before_keep_their_names() -> None:
    assert rejected_header(["image_path", "line"]) == [
        "image_path",
        "line",
        "rejected_reason",
        "rejected_line",
        "rejected_raw",
    ]


BROKEN = [
    '{"image_path": "1.png", "text": "blue", "label": 1',
    '["2.png", "green", 0]',
    '{"image_path": "2.png", "text": NaN, "label": 1, "sku": 7}',
    '{"image_path": "3.png", "text": "grey", "label": 1, "late": "kept"}',
]


@pytest.mark.parametrize("name", ["fixed.csv", "fixed.jsonl", "fixed.tsv", "fixed.parquet"])
def test_fix_keeps_the_lines_of_json_that_it_rejects(images: Path, name: str) -> None:
    good = '{"image_path": "0.png", "text": "red", "label": 1}'
    (images / "rows.jsonl").write_text("\n".join([good, "", *BROKEN]))
    assert run("validate", "rows.jsonl", "--fix", name).exit_code == 1
    kept = [row.columns for row in read_rows(images / name, require_label=True)]
    assert [(row["image_path"], row["late"]) for row in kept] == [("0.png", ""), ("3.png", "kept")]
    rejected = [
        row.columns
        for row in read_rows(
            (images / name).with_suffix(f".rejected{Path(name).suffix}"), require_label=True
        )
    ]
    assert [(row["line"], row["raw"]) for row in rejected] == [
        ("3", BROKEN[0]),
        ("4", BROKEN[1]),
        ("5", BROKEN[2]),
    ]
    assert "not JSON" in rejected[0]["reason"]


CSV = 'image_path,text,label\n0.png,red,1\n1.png,blue,1,what,is,"behind\nit"\n2.png,green\n3.png,grey,1\n'
RAW = [("3", '1.png,blue,1,what,is,"behind\nit"'), ("5", "2.png,green")]


def test_fix_and_split_keep_the_fields_of_csv_that_they_reject(images: Path) -> None:
    (images / "rows.csv").write_text(CSV)
    assert run("validate", "rows.csv", "--fix", "fixed.csv").exit_code == 1
    pytest.importorskip("imagehash")
    result = run("split", "rows.csv", "--output-dir", "parts", "--fractions", "0.5,0.5")
    assert result.exit_code == 0, result.output
    for name in ("fixed.rejected.csv", "parts/rejected.csv"):
        rejected = [row.columns for row in read_rows(images / name, require_label=False)]
        assert [(row["line"], row["raw"]) for row in rejected] == RAW


def test_split_keeps_keys_that_come_late_and_broken_lines(images: Path) -> None:
    pytest.importorskip("imagehash")
    rows = [
        {"image_path": f"{number % 6}.png", "text": f"red {number}", "label": 1}
        for number in range(101)
    ]
    lines = [
        *map(json.dumps, rows),
        json.dumps(rows[0] | {"text": "x", "late": "kept"}),
        "{broken",
        json.dumps(rows[0] | {"label": "maybe"}),
    ]
    (images / "rows.jsonl").write_text("\n".join(lines))
    assert (
        run("split", "rows.jsonl", "--output-dir", "parts", "--fractions", "0.5,0.5").exit_code == 0
    )
    found = [
        row.columns
        for name in ("train", "val")
        for row in read_rows(images / "parts" / f"{name}.csv", require_label=True)
    ]
    assert [row["late"] for row in found if row["late"]] == ["kept"]
    rejected = [
        row.columns for row in read_rows(images / "parts" / "rejected.csv", require_label=False)
    ]
    assert [(row["line"], row["raw"]) for row in rejected] == [
        ("103", "{broken"),
        ("104", lines[-1]),
    ]


@pytest.mark.parametrize("name", ["made.jsonl", "made.tsv", "made.parquet"])
def test_negatives_go_where_the_name_says(images: Path, name: str) -> None:
    pytest.importorskip("imagehash")
    pytest.importorskip("sklearn")
    texts = ["red shirt", "blue bag", "green shoe", "black watch", "white cap", "grey sock"]
    (images / "pairs.csv").write_text(
        "image_path,text\n" + "".join(f"{number}.png,{text}\n" for number, text in enumerate(texts))
    )
    result = run("make-negatives", "pairs.csv", "--output", name, "--kinds", "random")
    assert result.exit_code == 0, result.output
    rows = list(read_rows(images / name, require_label=True))
    assert {row.problem for row in rows} == {None}
    assert [row.text for row in rows if row.label == 1] == texts
    assert {row.columns["kind"] for row in rows} == {"match", "random"}


def test_a_table_of_scores_is_tsv_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bundles: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    Path("rows.csv").write_text("image_path,text\na.png,=red\n")
    model = ("--model", tiny_bundles["openclip"], "--csv", "rows.csv", "--threads", 1)
    for options in ((), ("--resume",), ("--safe-csv",)):
        assert run("predict", *model, "--output", "out.tsv", *options).exit_code == 0
        header, row = Path("out.tsv").read_text().splitlines()
        assert header.startswith("image_path\ttext\tsimilarity_score")
        assert row.startswith("a.png\t'=red\t" if options == ("--safe-csv",) else "a.png\t=red\t")


@pytest.mark.parametrize("name", ["out.xlsx", "out.csv.gz", "out.zip", "out.XLS"])
@pytest.mark.parametrize("there", [False, True])
def test_a_name_of_another_format_is_refused_with_those_that_are_written(
    images: Path, name: str, there: bool
) -> None:
    rows = [("image_path", "text", "label"), *((f"{n}.png", f"red {n}", 1) for n in range(6))]
    write_rows(Path("rows.csv"), rows)
    if there:
        Path(name).write_bytes(b"PK mine")
    for options in (
        ("predict", "--model", "openclip:tiny", "--csv"),
        ("make-negatives",),
        ("audit-labels", "--model", "openclip:tiny", "--csv"),
    ):
        result = run(*options, "rows.csv", "--output", name)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert all(fact in result.stderr for fact in (name, ".csv", ".jsonl", ".parquet"))
    assert not there or Path(name).read_bytes() == b"PK mine"
