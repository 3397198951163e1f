"""mismatch.jobs.table_kinds: which tables may be replaced, by the names of their columns and nothing
else.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mismatch.errors import InputError
from mismatch.io.outputs import OutputKind, check_outputs
from mismatch.jobs.row_tables import row_table
from mismatch.jobs.table_kinds import exact_table, extended_table, read_names, refuse_unasked

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
WRITTEN = ["image_path", "text", "label", "kind"]
SCORES = ("id", "score")

KIND = extended_table("a table", lambda: ["kept", "=kept"], SCORES)


def is_replaced(path: Path, kind: OutputKind) -> bool:
    try:
        check_outputs([("--output", path, kind)])
    except InputError:
        return False
    return True


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_names_of_what_was_written_are_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"o{ending}"
    names = ["image_path", 'a "quoted", name', "two\nlines", "größe"]
    with row_table(path, names) as rows:
        rows.writerow(["a.png", "1", "2", "3"])
    assert read_names(path) == names


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_first_row_or_a_footer_may_be_long(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"o{ending}"
    names = ["text", *(f"{number:05}{'x' * 40}" for number in range(2_000)), *SCORES]
    with row_table(path, names) as rows:
        rows.writerow(["long " * 100_000, *map(str, range(len(names) - 1))])
    assert is_replaced(path, extended_table("a table", lambda: names, SCORES))


@pytest.mark.parametrize(
    "header",
    [
        "image_path,text,label,kind,notes",
        "labels,mankind",
        "kind,label",
        "label;kind",
        "text,label,kind of",
        "image_path,text,kind,label",
    ],
)
def test_columns_that_are_others_are_somebody_elses(tmp_path: Path, header: str) -> None:
    kind = exact_table("a table", lambda: WRITTEN)
    (tmp_path / "o.csv").write_text(f"{header}\n1,2,3,4\n")
    (tmp_path / "o.tsv").write_text(header.replace(",", "\t") + "\n")
    (tmp_path / "o.jsonl").write_text(json.dumps(dict.fromkeys(header.split(","), "1")) + "\n")
    assert not any(
        is_replaced(tmp_path / f"o{ending}", kind) for ending in (".csv", ".tsv", ".jsonl")
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("o.jsonl", b'{"text": "id score"}\n'),
        ("o.jsonl", b'["id", "score"]\n'),
        ("o.jsonl", b"[" * 100_000),
        ("o.jsonl", b"id,score\n"),
        ("o.csv", b'{"id": 1, "score": 2}\n'),
        ("o.csv", b"id\tscore\n"),
        ("o.csv", b'"id,score\n'),
        ("o.csv", b"\xff\xfei\0d\0"),
        ("o.tsv", b"id,score\n"),
        ("o.csv", b"the id,score of it\n"),
        ("o.csv", b"other,id,score,more\n"),
        ("o.parquet", b"PAR1 id score PAR1"),
        ("o.parquet", b"PAR1" + bytes(4) + b"\xff\xff\xff\xffPAR1"),
        ("o.parquet", b"PAR1"),
        ("o.parquet", b"id,score\n"),
    ],
)
def test_what_merely_holds_the_words_is_no_such_table(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert not is_replaced(tmp_path / name, KIND)


@pytest.mark.parametrize(
    ("header", "replaced"),
    [
        ("id,score", True),
        ("kept,id,score", True),
        ("kept,'=kept,id,score", True),
        ("\ufeffkept,id,score", True),
        ("id,score,kept", False),
        ("mine,kept,id,score", False),
        ("kept,mine,id,score", False),
        ("kept,id,mine,score", False),
        ("kept,id,score,mine", False),
    ],
)
def test_a_column_of_somebodys_own_is_kept_wherever_it_stands(
    tmp_path: Path, header: str, replaced: bool
) -> None:
    (tmp_path / "o.csv").write_text(f"{header}\n", encoding="utf-8")
    assert is_replaced(tmp_path / "o.csv", KIND) == replaced


def test_what_is_there_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "o.csv"
    refuse_unasked("`output`", [path], overwrite=False)
    path.write_bytes(b"")
    refuse_unasked("`output`", [path, Path("/dev/null")], overwrite=False)
    path.write_bytes(b"mine")
    refuse_unasked("`output`", [path], overwrite=True)
    with pytest.raises(InputError, match=r"o\.csv is there already.*`overwrite=True`"):
        refuse_unasked("`output`", [path], overwrite=False)


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("o.jsonl", '{"id": "3", "score": "1", "reviewer": "Anna"}\n'),
        ("o.csv", "3,1,Anna\n"),
        ("o.tsv", "3\t1\tAnna\n"),
    ],
)
def test_a_table_in_which_somebody_has_added_values_to_a_row_is_not_replaced(
    tmp_path: Path, name: str, added: str
) -> None:
    path = tmp_path / name
    with row_table(path, SCORES) as rows:
        rows.writerow(["1", "0.5"])
        rows.writerow(["2", "0.6"])
    kind = exact_table("a table", lambda: SCORES)
    assert is_replaced(path, kind)
    with path.open("a") as file:
        file.write(added)
    assert not is_replaced(path, kind)
