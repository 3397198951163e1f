"""Rows as people have them become a file that everything else reads."""

from __future__ import annotations

import csv
import datetime as dt
import errno
import io
import json
import signal
import tempfile
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mismatch.data.columns import Columns
from mismatch.data.pairs import read_rows
from mismatch.data.readers.memory import row_mappings, rows_file, value_text
from mismatch.errors import InputError, MachineError

ROWS = [
    {"image_path": "a.png", "text": "red", "label": 1, "price": 1.5, "note": None},
    {"image_path": "b.png", "text": "blå, 'x'\n2", "label": 0, "price": 2.0, "note": "n"},
]


def records(rows: Any, columns: Columns | None = None) -> list[Any]:
    with rows_file(rows, columns or Columns()) as (path, _):
        return [json.loads(line) for line in Path(str(path)).read_text("utf-8").splitlines()]


def tables() -> list[Any]:
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(ROWS, index=[7, 3])
    return [ROWS, tuple(ROWS), iter(ROWS), (row for row in ROWS), frame, pyarrow.table(frame)]


@pytest.mark.parametrize("number", range(6))
def test_tables_and_iterables_are_rows(number: int) -> None:
    wanted = [{key: row[key] for key in ("image_path", "text", "label", "price")} for row in ROWS]
    found = records(tables()[number])
    assert [{key: row[key] for key in wanted[0]} for row in found] == wanted
    assert [row["note"] for row in found] == [None, "n"]


CLASSES = ["match", "mismatch"]  # 0 and 1
CLASS_ROWS = [{"image_path": f"{n}.png", "text": "red", "label": n} for n in (0, 1, -1)]


def test_classes_of_a_dataset_are_their_names() -> None:
    """A stand-in, known by its methods as a dataset is."""

    class ClassLabel:
        names = CLASSES

    class Dataset:
        features = {"label": ClassLabel()}  # noqa: RUF012
        cast_column = None

        def __iter__(self) -> Any:
            return iter(CLASS_ROWS)

    found = [row["label"] for row in row_mappings(Dataset())]
    assert found == ["match", "mismatch", None]


def test_classes_of_an_arrow_table_are_their_names() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    feature = {"label": {"_type": "ClassLabel", "names": CLASSES}}
    info = json.dumps({"info": {"features": feature}}).encode()
    table = pyarrow.Table.from_pylist(CLASS_ROWS[:2])
    table = table.replace_schema_metadata({"huggingface": info})
    columns = Columns(label_map="match=1,mismatch=0")
    with rows_file(table, columns) as (path, _):
        rows = list(read_rows(path, require_label=True, columns=columns))
    assert [row.label for row in rows] == [1, 0]


def test_a_polars_table_is_known_by_its_methods() -> None:
    class Table:
        columns = ("image_path", "text")

        def iter_rows(self, *, named: bool) -> Any:
            assert named
            return iter(ROWS)

    assert records(Table()) == ROWS


def test_a_dataset_keeps_its_images_as_they_are_encoded() -> None:
    datasets = pytest.importorskip("datasets")
    data = png("red")
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    dataset = datasets.Dataset.from_dict(
        {"image": [{"bytes": data, "path": None}], "text": ["red"]}, features=features
    )
    with rows_file(dataset, Columns()) as (path, folder):
        [row] = read_rows(path, require_label=False)
        assert folder is not None
        assert (folder / row.image_path).read_bytes() == data


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("absolute", [False, True])
def test_images_in_memory_are_written_once_each(absolute: bool) -> None:
    red = Image.new("RGB", (4, 4), "red")
    rows = [
        {"image": png("red"), "text": "a"},
        {"image": io.BytesIO(png("red")), "text": "b"},
        {"image": red, "text": "c"},
        {"image": np.asarray(red), "text": "d"},
        {"image": {"bytes": png("blue"), "path": "x"}, "text": "e"},
        {"image": Path("there.png"), "text": "f"},
    ]
    with rows_file(rows, Columns(), absolute_images=absolute) as (path, folder):
        assert (folder is None) == absolute
        found = list(read_rows(path, require_label=False))
        assert found[0].image_path == found[1].image_path
        assert found[2].image_path == found[3].image_path
        assert found[5].image_path == (
            "there.png" if absolute else str(Path("there.png").absolute())
        )
        assert absolute or found[2].image_path == "row-3"
        places = [(folder or Path()) / row.image_path for row in found[:5]]
        colours = [Image.open(place).convert("RGB").getpixel((0, 0)) for place in places]
        assert colours == [(255, 0, 0)] * 4 + [(0, 0, 255)]
    assert not Path(str(path)).exists()
    assert not places[0].exists()
    with (
        pytest.raises(InputError, match="row 1: its image is in memory"),
        rows_file(rows, Columns(inside="d")),
    ):
        pass


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    for given in (tmp_path / "a.csv", str(tmp_path / "a.csv")):
        with rows_file(given, Columns()) as (path, _):
            assert path == tmp_path / "a.csv"


def test_missing_values_and_numbers_of_other_libraries() -> None:
    pandas = pytest.importorskip("pandas")
    rows = [
        {
            "image_path": "a.png",
            "text": float("nan"),
            "label": np.int64(1),
            "price": np.float32(0.5),
            "when": pandas.Timestamp("2026-01-02"),
            "none": pandas.NA,
            "list": np.array([1, 2]),
        }
    ]
    [found] = records(rows)
    assert (found["text"], found["label"], found["price"]) == (None, 1, 0.5)
    assert found["when"].startswith("2026-01-02")
    assert (found["none"], found["list"]) == (None, [1, 2])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (7, "the rows are an int"),
        (b"a.csv", "the rows are a bytes"),
        ({"image_path": ["a"]}, "the rows are a dict"),
        ([("a.png", "red")], "row 1 is a tuple"),
        (["a.png"], "row 1 is a str"),
        ([{"image_path": 3, "text": "x"}], "row 1: an image is an int"),
    ],
)
def test_what_holds_no_rows_is_refused_by_its_type(rows: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        records(rows)


def test_a_kind_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InputError, match="a path, a table"):
        row_mappings(object())


def test_paths_among_images_in_memory_are_those_below_the_base(tmp_path: Path) -> None:
    rows = [{"image": png("red"), "text": "a"}, {"image": "images/5.png;6.png", "text": "b"}]
    with rows_file(rows, Columns(multi_image="all"), str(tmp_path)) as (path, _):
        found = list(read_rows(path, require_label=False))
    assert found[1].image_path == f"{tmp_path}/images/5.png;{tmp_path}/6.png"


@pytest.mark.parametrize("kind", [list, tuple, lambda images: np.array(images, object)])
def test_a_row_has_a_list_of_images_in_memory_and_as_paths(kind: Any, tmp_path: Path) -> None:
    red, blue = png("red"), png("blue")
    rows = [
        {"image_path": kind([red, {"bytes": blue, "path": None}, "a.png"]), "text": "a"},
        {"image_path": kind([blue, "b.png"]), "text": "b"},
    ]
    columns = Columns(multi_image="best")
    with rows_file(rows, columns, str(tmp_path)) as (path, folder):
        assert folder is not None
        found = [columns.images(row.image_path) for row in read_rows(path, require_label=False)]
        assert [(folder / name).read_bytes() for name in found[0][:2]] == [red, blue]
        assert found == [
            ["row-1", "row-1-2", str(tmp_path / "a.png")],
            ["row-1-2", str(tmp_path / "b.png")],
        ]


@pytest.mark.parametrize(
    ("images", "words"), [([b"x", None], "row 1: one of its images is missing"), ([[b"x"]], "list")]
)
def test_a_list_of_images_holds_nothing_else(images: list[Any], words: str) -> None:
    with (
        pytest.raises(InputError, match=words),
        rows_file([{"image_path": images, "text": "a"}], Columns(multi_image="best")),
    ):
        pass


def test_a_list_of_images_is_a_problem_of_its_row_where_one_is_read() -> None:
    rows = [{"image_path": ["a.png", "b.png"], "text": "a"}]
    with rows_file(rows, Columns()) as (path, _):
        [row] = read_rows(path, require_label=False)
    assert "2 images" in str(row.problem)


def test_a_value_is_the_same_text_in_a_file_and_in_a_table() -> None:
    values = {"a": True, "b": None, "c": 2, "d": 1.5, "e": np.float64(2.5), "f": float("nan")}
    rows = [{"image_path": "x.png", "text": "t", **values}]
    with rows_file(rows, Columns()) as (path, _):
        [row] = read_rows(path, require_label=False)
    assert {name: value_text(value) for name, value in values.items()} == {
        name: row.columns[name] for name in values
    }


def test_half_a_character_is_a_problem_of_its_row() -> None:
    rows = [{"image_path": "a.png", "text": "a \ud800"}, {"image_path": "b.png", "text": "b"}]
    with rows_file(rows, Columns()) as (path, _):
        first, second = read_rows(path, require_label=False)
    assert "half of a character" in (first.problem or "")
    assert (second.problem, second.text) == (None, "b")


def test_keys_that_are_no_texts() -> None:
    [row] = records([{"text": "a", "x": {("t", 1): [{2: 3}]}, "y": ({(): 1},)}])
    assert row == {"text": "a", "x": {"('t', 1)": [{"2": 3}]}, "y": [{"()": 1}]}
    with pytest.raises(InputError, match="row 1: two of its keys are the same text"):
        records([{"text": "a", 1: 2, "1": 3}])
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    for value in (loop, deep, {(): loop}):
        with pytest.raises(InputError, match="row 2: a value holds itself, or is nested too"):
            records([{"text": "a"}, {"text": "b", "x": value}])
    with pytest.raises(InputError, match="row 1: a value has too many digits"):
        records([{"text": "a", "x": 10**5_000}])


@pytest.mark.parametrize("rows", [[], (), iter([])])
def test_no_rows_are_said(rows: Any) -> None:
    with pytest.raises(InputError, match="has no rows; nothing to do"):
        records(rows)


def test_a_table_has_no_two_columns_of_one_name() -> None:
    pandas = pytest.importorskip("pandas")
    for names in (["image_path", "text", "text"], ["image_path", 1, "1"]):
        frame = pandas.DataFrame([["a.png", "red", "blue"]], columns=names)
        with pytest.raises(InputError, match=f"two columns '{names[-1]}'; rename one"):
            row_mappings(frame)
    table = pytest.importorskip("pyarrow").table(
        [["a.png"], ["1"], ["0"]], ["text", "label", "label"]
    )
    with pytest.raises(InputError, match="two columns 'label'; rename one"):
        row_mappings(table)


@pytest.mark.parametrize(
    "text",
    [
        b"red",
        bytearray(b"red"),
        np.datetime64("2026-01-02"),
        dt.date(2026, 1, 2),
        Decimal("1.50"),
        uuid.UUID(int=7),
        Path("red"),
        {"red"},
        object(),
    ],
)
def test_what_is_no_text_is_none_in_a_file(text: Any) -> None:
    rows = [{"image_path": "a.png", "caption": text}, {"image_path": "a.png", "caption": "red"}]
    columns = Columns(text="caption")
    with rows_file(rows, columns) as (path, _):
        bad, good = read_rows(path, columns=columns, require_label=False)
    assert bad.problem is not None
    assert bad.problem.startswith("the text is ")
    assert good.problem is None


def test_a_row_of_too_many_fields_has_no_text() -> None:
    table = io.StringIO("image_path,text\na.png,red\na.png,red, and blue\n")
    with rows_file(csv.DictReader(table), Columns()) as (path, _):
        good, bad = read_rows(path, require_label=False)
    assert good.problem is None
    assert bad.problem is not None
    assert "too many fields" in bad.problem


@pytest.mark.parametrize("what", ["rows", "images", "folder"])
def test_a_full_temporary_folder_is_one_line_that_names_it(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path if what != "folder" else tmp_path / "no"))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    image: Any = "a.png" if what == "rows" else png("red")
    rows = ({"image_path": image, "text": f"{number} {'x' * 9_000}"} for number in range(9))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 if what == "images" else 20_000, before[1]))
    try:
        with (
            pytest.raises(MachineError, match=rf"{tmp_path}.*: .*set TMPDIR to another") as error,
            rows_file(rows, Columns()),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_rows_themselves_passes_through() -> None:
    def failing() -> Any:
        yield {"text": "a"}
        raise OSError(errno.ENOENT, "a user's own")

    with pytest.raises(OSError, match="own"), rows_file(failing(), Columns()):
        pass


@pytest.mark.parametrize("encoding", ["gb18030", "cp1252", "utf-16", "utf-8"])
def test_an_encoding_of_files_changes_no_rows_in_memory(encoding: str) -> None:
    texts = ["红色手提包", "赤いバッグ", "حقيبة حمراء", "लाल थैला", "Sac foncé", "\U0001f45c"]
    rows = [{"image_path": f"{i}.jpg", "text": text} for i, text in enumerate(texts)]
    columns = Columns(encoding=encoding)
    with rows_file(rows, columns) as (path, _):
        read = list(read_rows(path, require_label=False, columns=columns))
    assert [(row.text, row.problem) for row in read] == [(text, None) for text in texts]
