"""mismatch.data.readers.arrow: Parquet, and folders as save_to_disk of Hugging Face datasets writes
them.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mismatch.data.columns import Columns
from mismatch.data.pairs import (
    format_location,
    load_pairs,
    read_header,
    read_rows,
    rows_files,
    scan_rows,
)
from mismatch.data.readers import arrow as arrow_rows
from mismatch.data.readers import arrow_values, parquet_pages
from mismatch.errors import InputError, MissingExtraError
from mismatch.io.remote import Remote
from mismatch.runtime.open_image import open_image_file

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

GOOD: dict[str, Any] = {
    "image_path": ["a.jpg", "b.jpg", "c.jpg"],
    "text": ["red", "blue", None],
    "label": [1, 0, 1],
}


def parquet(path: Path, table: Any, **options: Any) -> Path:
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), path, **options)
    return path


def dataset(folder: Path, *tables: Any, features: dict[str, Any] | None = None) -> Path:
    """What Dataset.save_to_disk writes: Arrow streams and a state.json that names them."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{len(tables):05}.arrow" for i in range(len(tables))]
    for name, columns in zip(names, tables, strict=True):
        table = pa.table(columns).replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features or {}}})}
        )
        with (
            pa.OSFile(str(folder / name), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as stream,
        ):
            stream.write_table(table)
    (folder / "state.json").write_text(
        json.dumps(
            {"_data_files": [{"filename": name} for name in names], "_fingerprint": "c0ffee"}
        )
    )
    return folder


@pytest.fixture(params=["parquet", "dataset"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Write columns in either format; returns the path."""
    return lambda columns: (
        parquet(tmp_path / "rows.parquet", columns)
        if request.param == "parquet"
        else dataset(tmp_path / "rows", columns)
    )


def test_rows_are_numbered_from_1(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_rows, "BATCH", 2)
    path = write(GOOD)
    rows = list(read_rows(path, require_label=True))
    assert [row[:4] for row in rows] == [
        (1, "a.jpg", "red", 1),
        (2, "b.jpg", "blue", 0),
        (3, "c.jpg", "", 1),
    ]
    assert [row.problem for row in rows] == [None, None, "the text is empty"]
    with pytest.raises(InputError) as caught:
        load_pairs(path)
    assert (
        str(caught.value)
        == f"{path}:row 3: the text is empty"
        == f"{format_location(path, 3)}: the text is empty"
    )


def test_values_of_every_type(write: Any) -> None:
    path = write(
        {
            "image_path": pa.array(["a.jpg", "b.jpg"]).dictionary_encode(),
            "text": pa.array(["red", "blue"], pa.large_string()),
            "label": pa.array(["1", "0"]),
            "price": [1.0, None],
            "new": [True, False],
            "day": [date(2026, 1, 2), None],
            "tags": [["a", "b"], []],
            "thumb": [b"\x00", b"\xff"],
            "sizes": [{"w": 1}, None],
        }
    )
    assert read_header(path, require_label=True) == [
        "image_path",
        "text",
        "label",
        "price",
        "new",
        "day",
        "tags",
        "sizes",
    ]
    first, second = read_rows(path, require_label=True)
    assert list(first.columns.values()) == [
        "a.jpg",
        "red",
        "1",
        "1.0",
        "true",
        "2026-01-02",
        "a;b",
        '{"w": 1}',
    ]
    assert list(second.columns.values()) == ["b.jpg", "blue", "0", "", "false", "", "[]", ""]


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ([1.5], "label '1.5' is neither"),
        ([True], "label map true/false"),
        ([2], "label '2' is neither"),
        ([None], "the label is empty"),
    ],
)
def test_labels_that_are_none(write: Any, label: list[Any], words: str) -> None:
    [row] = read_rows(
        write({"image_path": ["a.jpg"], "text": ["red"], "label": label}), require_label=True
    )
    assert words in (row.problem or "")
    assert row.label is None


def test_images_of_a_row_may_be_a_list(write: Any) -> None:
    path = write(
        {"image_path": [["a.jpg", "b.jpg"], ["c.jpg"], None], "text": ["red", "blue", "green"]}
    )
    said = [row.problem for row in read_rows(path, require_label=False)]
    assert said == [
        (
            "this row has 2 images; say whether rows of several images match by their best one"
            " or by all"
        ),
        None,
        "the image_path is empty",
    ]
    assert [
        row.image_path
        for row in read_rows(path, require_label=False, columns=Columns(multi_image="all"))
    ] == ["a.jpg;b.jpg", "c.jpg", ""]


def test_images_as_datasets_stores_them(write: Any) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    path = write(
        {
            "image": pa.array(
                [{"bytes": None, "path": "a.jpg"}, {"bytes": b"\xff\xd8", "path": "b.jpg"}, None],
                kind,
            ),
            "text": ["r", "g", "b"],
        }
    )
    first, second, third = read_rows(path, require_label=False)
    assert (first.image_path, first.problem, third.problem) == (
        "a.jpg",
        None,
        "the image_path is empty",
    )
    file = path if path.is_file() else path / "data-00000-of-00001.arrow"
    assert (second.image_path, second.problem) == (f"{file}:2", None)
    assert open_image_file(second.image_path).read() == b"\xff\xd8"


def test_bytes_are_an_image(write: Any) -> None:
    [row] = read_rows(write({"image_path": [b"\xff\xd8"], "text": ["red"]}), require_label=False)
    assert row.problem is None
    assert open_image_file(row.image_path).read() == b"\xff\xd8"


def test_images_of_a_list_are_no_path(write: Any) -> None:
    path = write({"image_path": [[b"\xff\xd8", b"\xff"]], "text": ["red"]})
    [row] = read_rows(path, require_label=False)
    assert (row.problem or "").startswith(arrow_rows.EMBEDDED)


def test_nul_characters_are_refused(write: Any) -> None:
    [row] = read_rows(write({"image_path": ["a\0.jpg"], "text": ["red"]}), require_label=False)
    assert (row.problem, row.intact) == ("a NUL character stands in this row; take it out", False)


def test_a_dataset_of_several_files(tmp_path: Path) -> None:
    folder = dataset(
        tmp_path / "set",
        *({name: values[i : i + 1] for name, values in GOOD.items()} for i in range(2)),
    )
    assert [(row.line, row.image_path) for row in read_rows(folder, require_label=True)] == [
        (1, "a.jpg"),
        (2, "b.jpg"),
    ]
    assert [file.name for file in rows_files(folder)] == [
        "data-00000-of-00002.arrow",
        "data-00001-of-00002.arrow",
        "state.json",
    ]


def test_classes_are_what_they_are_called(tmp_path: Path) -> None:
    columns = {"image_path": ["a", "b", "c"], "text": ["x", "y", "z"], "label": [0, 1, -1]}
    folder = dataset(
        tmp_path / "set",
        columns,
        features={
            "label": {"_type": "ClassLabel", "names": ["match", "mismatch"]},
            "text": {"_type": "Value"},
        },
    )
    assert "label 'match' is neither 0 nor 1" in (
        next(read_rows(folder, require_label=True)).problem or ""
    )
    rows = list(read_rows(folder, require_label=True, columns=Columns(label_map="match/mismatch")))
    assert [(row.label, row.problem is None) for row in rows] == [
        (1, True),
        (0, True),
        (None, False),
    ]


def test_folders_that_are_not_one_dataset(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=(
            "is a folder, a pipe or a device; a CSV, TSV, JSONL, Parquet, Arrow or webdataset file, or"
            " a folder that"
            " save_to_disk"
        ),
    ):
        list(read_rows(tmp_path, require_label=True))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(
        InputError,
        match=f"holds several splits; name one: {tmp_path / 'train'}, {tmp_path / 'test'}",
    ):
        list(read_rows(tmp_path, require_label=True))
    folder = dataset(tmp_path / "train", GOOD)
    (folder / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(InputError, match="can't be read as an Arrow dataset"):
        list(read_rows(folder, require_label=True))
    (folder / "state.json").write_text("{}")
    with pytest.raises(InputError, match="names no data files"):
        list(read_rows(folder, require_label=True))


def test_a_file_that_is_not_parquet(tmp_path: Path) -> None:
    (tmp_path / "lie.parquet").write_text("image_path,text\n")
    cut = parquet(
        tmp_path / "cut.parquet",
        {name: values * 50_000 for name, values in GOOD.items()},
        compression="none",
        use_dictionary=False,
    )
    data = cut.read_bytes()
    cut.write_bytes(data[:2000] + b"\xff" * 3000 + data[5000:])
    for name in ("lie.parquet", "cut.parquet"):
        with pytest.raises(InputError, match=f"{name} can't be read as a Parquet file: "):
            list(scan_rows(tmp_path / name, print))
    with pytest.raises(InputError, match="No such file"):
        read_header(tmp_path / "absent.parquet", require_label=True)


def test_without_pyarrow_the_pip_line_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = parquet(tmp_path / "rows.parquet", GOOD), dataset(tmp_path / "set", GOOD)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for source in (path, folder):
        with pytest.raises(
            MissingExtraError,
            match=rf'reading {source} needs .* pip install "mismatch-clip\[parquet\]"',
        ):
            list(read_rows(source, require_label=True))


@pytest.mark.parametrize("groups", [1, 20])
def test_of_an_object_no_more_is_fetched_than_is_needed_next(
    store: Remote, monkeypatch: pytest.MonkeyPatch, groups: int
) -> None:
    random, count = np.random.default_rng(0), 60_000
    columns = {
        name: [random.bytes(20).hex() for _ in range(count)] for name in ("image_path", "text")
    } | {"photo": [random.bytes(100)] * count}
    with (store / "rows.parquet").writing() as file:
        pq.write_table(
            pa.table(columns),
            file,
            row_group_size=count // groups,
            use_dictionary=False,
            compression="none",
            data_page_size=2**14,
        )
    size = store.listing()["rows.parquet"] or 0
    monkeypatch.setattr(arrow_rows, "READ", 2**16)
    read, asked = Remote.read, list[int]()

    def counted(self: Remote, start: int, end: int) -> bytes:
        asked.append(end - start)
        return read(self, start, end)

    monkeypatch.setattr(Remote, "read", counted)
    rows = read_rows(str(store / "rows.parquet"), require_label=False)
    assert next(rows).text == columns["text"][0]
    assert sum(asked) < 0.2 * size
    assert [row.text for row in rows] == columns["text"][1:]
    assert max(asked) <= 2**17  # a piece, or the footer
    assert sum(asked) < 1.2 * size  # each byte of the needed columns once, none of the photos


def test_a_damaged_object_is_one_line(store: Remote) -> None:
    (store / "rows.parquet").write(b"PAR1 no more")
    with pytest.raises(
        InputError, match=rf"^{store}/rows.parquet can't be read as a Parquet file: "
    ):
        read_header(store / "rows.parquet", require_label=False)
    with pytest.raises(InputError, match=rf"^{store}/gone.parquet: there is no such object$"):
        read_header(store / "gone.parquet", require_label=False)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pa.array([float("nan"), 1.5]), "the text is nan, not a string"),
        (pa.array([5, 6]), "the text is 5, not a string"),
        (pa.array([True, False]), "the text is True, not a string"),
        (pa.array([["red"], ["blue"]]), "the text is ['red'], not a string"),
        (pa.array([{"a": 1}, {"a": 2}]), "the text is {'a': 1}, not a string"),
        (pa.array([date(2026, 1, 2)] * 2), "the text is 2026-01-02, not a string"),
        (pa.array([5, 6]).dictionary_encode(), "the text is 5, not a string"),
        (pa.array([None, None], pa.string()), "the text is empty"),
    ],
    ids=["nan", "number", "boolean", "list", "object", "date", "dictionary", "null"],
)
def test_what_is_no_text_is_a_problem(write: Any, values: Any, words: str) -> None:
    first, _ = read_rows(
        write({"image_path": ["a.jpg", "b.jpg"], "text": values}), require_label=False
    )
    assert first.problem == words


def test_numbers_are_no_path(write: Any) -> None:
    [row] = read_rows(write({"image_path": [5], "text": ["red"]}), require_label=False)
    assert row.problem == "the image_path is 5, not a path"


def shared(count: int, length: int) -> Any:
    """One string, named `count` times."""
    return pa.DictionaryArray.from_arrays(
        pa.array([0] * count, pa.int32()), pa.array(["a" * length])
    )


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of a hundredth, so that no test needs the memory."""
    monkeypatch.setattr(arrow_rows, "FREE", 2**20)
    monkeypatch.setattr(arrow_values, "MAX_UNPACKED", 2**18)
    for name, value in {
        "MAX_PAGE": 2**21,
        "MAX_DICTIONARY": 2**21,
        "HELD": 2**18,
        "MAX_LISTED": 2**14,
        "MAX_PAGE_VALUES": 2**16,
    }.items():
        monkeypatch.setattr(parquet_pages, name, value)


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (shared(3000, 2**16), {}, "unpacks to more than 1,000 times its size"),
        (
            pa.array(["a" * 2**22]),
            {},
            "a page unpacks to 4,194,308 bytes; at most 2,097,152 are read",
        ),
        (
            pa.array(["a" * 2**22]),
            {"use_dictionary": False, "compression": "none"},
            "a page unpacks to 4,19",
        ),
        (
            pa.array(["a" * 2**22]),
            {"use_dictionary": False, "data_page_version": "2.0"},
            "a page unpacks to 4,19",
        ),
        (pa.array(["a" * 2**19]), {}, "a row holds 524,293 bytes; at most 262,144 are read"),
        (pa.array([["a" * 2**10] * 2**12]), {}, "bytes; at most 262,144 are read"),
        (pa.array([["a"] * 2**18]), {}, "values of lists stand in|values; at most"),
        (pa.array([[None] * 2**15], pa.list_(pa.string())), {}, "32,768 values of lists stand in"),
        (
            pa.array(["a" * 2**16] * 3000),
            {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
            "unpacks to more than 1,000 times",
        ),
        (
            pa.nulls(100_000, pa.string()),
            {},
            "unpacks to more than 1,000 times its size|values; at most 65,536 are read",
        ),
    ],
    ids=[
        "dictionary",
        "value",
        "plain",
        "second version",
        "row",
        "list",
        "long list",
        "nulls of a list",
        "delta",
        "nulls",
    ],
)
def test_a_small_file_that_unpacks_to_a_large_one_is_refused(
    tmp_path: Path, text: Any, options: dict[str, Any], words: str
) -> None:
    path = tmp_path / "bomb.parquet"
    images = pa.DictionaryArray.from_arrays(
        pa.array([0] * len(text), pa.int32()), pa.array(["a.jpg"])
    )
    pq.write_table(
        pa.table({"image_path": images, "text": text}), path, **({"compression": "zstd"} | options)
    )
    with pytest.raises(InputError, match=words):
        list(read_rows(path, require_label=False))


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dictionary": False},
        {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
        {"row_group_size": 100},
    ],
)
def test_what_is_large_is_read_in_small_parts(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "rows.parquet"
    texts = [f"{number} " + "red shirt " * (number % 2_000) for number in range(600)]
    pq.write_table(
        pa.table({"image_path": [f"{number}.jpg" for number in range(600)], "text": texts}),
        path,
        **options,
    )
    assert [row.text for row in read_rows(path, require_label=False)] == texts


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_dataset_of_compressed_batches_is_refused(tmp_path: Path, compression: str) -> None:
    folder = dataset(tmp_path / "set", GOOD)
    table = pa.table(GOOD | {"kind": pa.array(["x"] * len(GOOD["text"])).dictionary_encode()})
    for options in (pa.ipc.IpcWriteOptions(), pa.ipc.IpcWriteOptions(compression=compression)):
        with pa.ipc.new_stream(
            next(folder.glob("*.arrow")), table.schema, options=options
        ) as writer:
            writer.write_table(table)
        if options.compression is None:
            assert len(list(read_rows(folder, require_label=True))) == len(GOOD["text"])
        else:
            with pytest.raises(
                InputError, match="holds compressed batches, which save_to_disk does not write"
            ):
                list(read_rows(folder, require_label=True))


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize(
    "text", [shared(3000, 2**16), pa.nulls(2**22)], ids=["dictionary", "nulls"]
)
def test_a_dataset_that_unpacks_to_a_large_one_is_refused(tmp_path: Path, text: Any) -> None:
    folder = dataset(tmp_path / "set", {"image_path": pa.nulls(len(text)), "text": text})
    with pytest.raises(InputError, match="unpacks to more than 1,000 times its size"):
        list(read_rows(folder, require_label=False))


def test_types_that_no_table_of_rows_has_are_left_out(tmp_path: Path) -> None:
    views = pa.ListViewArray.from_arrays(
        pa.array([0] * 3, pa.int32()), pa.array([3] * 3, pa.int32()), pa.array(["a", "b", "c"])
    )
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([3], pa.int32()), pa.array(["x"]))
    folder = dataset(tmp_path / "set", GOOD | {"views": views, "runs": runs})
    assert read_header(folder, require_label=True) == [*GOOD]
    assert len(list(read_rows(folder, require_label=True))) == 3


@pytest.mark.parametrize("value", [2**30, -5])
def test_offsets_that_lie_are_damage(tmp_path: Path, value: int) -> None:
    folder = dataset(tmp_path / "set", GOOD | {"text": ["red", "blue", "green"]})
    [path] = folder.glob("*.arrow")
    offsets = np.array([0, 3, 7, 12], np.int32).tobytes()
    assert path.read_bytes().count(offsets) == 1
    path.write_bytes(
        path.read_bytes().replace(offsets, np.array([0, 3, 7, value], np.int32).tobytes())
    )
    with pytest.raises(InputError, match="can't be read as an Arrow dataset"):
        list(read_rows(folder, require_label=True))


@pytest.mark.parametrize("name", ["../other.arrow", "/etc/passwd", "deep/data.arrow", ".."])
def test_a_dataset_names_files_of_its_own_only(tmp_path: Path, name: str) -> None:
    folder = dataset(tmp_path / "set", GOOD)
    (tmp_path / "other.arrow").write_bytes(next(folder.glob("*.arrow")).read_bytes())
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(InputError, match="which is no file of this folder"):
        list(read_rows(folder, require_label=True))


def named(folder: Path, *names: Any) -> Path:
    """Let a dataset's state name other files."""
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": name} for name in names]})
    )
    return folder


NAMES = ["\ud800", "a\0b", "\0", "\x1b[2J", "n" * 5000, "a" * 300, "", ".", "a/../b", "\udcff"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_that_no_file_has_is_one_readable_line(tmp_path: Path, name: str) -> None:
    folder = named(dataset(tmp_path / "set", GOOD), name)
    with pytest.raises(InputError) as caught:
        list(read_rows(folder, require_label=True))
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1000
    assert str(folder) in message


@pytest.mark.parametrize("name", [5, None, [], {}, ["a"], True])
def test_a_name_that_is_no_text_is_no_data_file(tmp_path: Path, name: Any) -> None:
    with pytest.raises(InputError, match="names no data files"):
        list(read_rows(named(dataset(tmp_path / "set", GOOD), name), require_label=True))


@pytest.mark.parametrize("entries", [5, "abc", {"a": 1}, [5], ["a"], [None], [[]], None])
def test_a_state_of_another_shape_names_no_data_files(tmp_path: Path, entries: Any) -> None:
    folder = dataset(tmp_path / "set", GOOD)
    (folder / "state.json").write_text(json.dumps({"_data_files": entries}))
    with pytest.raises(InputError, match="names no data files"):
        list(read_rows(folder, require_label=True))


def test_a_file_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", GOOD)
    name = next(folder.glob("*.arrow")).name
    with pytest.raises(InputError, match=f"names '{name}' twice"):
        list(read_rows(named(folder, name, name), require_label=True))


@pytest.mark.parametrize(
    "splits",
    [
        5,
        [5],
        "train",
        {"train": 1},
        [["train"]],
        [None],
        True,
        ["\x1b[2J", "\ud800", "a\0b"],
        [f"part-{i}" for i in range(100_000)],
    ],
)
def test_splits_of_any_shape_are_one_readable_line(tmp_path: Path, splits: Any) -> None:
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    with pytest.raises(InputError, match="holds several splits; name one") as caught:
        list(read_rows(tmp_path, require_label=True))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 5000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("name", ["data-00000-of-00001.arrow", "state.json", "dataset_dict.json"])
def test_a_pipe_in_a_dataset_is_refused_and_not_waited_for(
    tmp_path: Path, name: str, linked: bool
) -> None:
    folder = dataset(tmp_path / "set", GOOD)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe")
    if linked:
        (folder / name).symlink_to(tmp_path / "pipe")
    else:
        os.rename(tmp_path / "pipe", folder / name)
    if name == "dataset_dict.json":
        assert len(list(read_rows(folder, require_label=True))) == 3
        return
    for read in (
        rows_files,
        lambda path: list(read_rows(path, require_label=True)),
        lambda path: read_header(path, require_label=True),
    ):
        with pytest.raises(InputError, match="pipe or a device"):
            read(folder)


@pytest.mark.parametrize("target", ["/dev/zero", "/dev", "loop"])
def test_what_is_no_file_behind_a_link_is_refused(tmp_path: Path, target: str) -> None:
    folder = dataset(tmp_path / "set", GOOD)
    file = next(folder.glob("*.arrow"))
    file.unlink()
    file.symlink_to(file.name if target == "loop" else target)
    with pytest.raises(InputError, match="which can't be read"):
        list(read_rows(folder, require_label=True))


VIEWS = pytest.mark.skipif(not hasattr(pa, "string_view"), reason="this pyarrow has no views")


def views(values: list[str | None]) -> Any:
    return pa.array(values, pa.string_view())


@VIEWS
@pytest.mark.parametrize("write", [dataset, parquet], ids=["dataset", "parquet"])
def test_views_of_strings_are_strings(tmp_path: Path, write: Any) -> None:
    texts = [
        "红色手提包",
        "赤いハンドバッグ、新品",
        "حقيبة يد حمراء",
        "लाल चमड़े का बैग",
        "Sac à main",
        None,
    ]
    columns = {
        "image_path": views([f"{i}.jpg" for i in range(6)]),
        "text": views(texts),
        "label": pa.array([1.0, 0.0] * 3),
        "tags": pa.array([["a", "b"]] * 6, pa.list_(pa.string_view())),
        "thumb": pa.array([b"\xff"] * 6, pa.binary_view()),
    }
    path = write(tmp_path / "a.parquet", pa.table(columns) if write is parquet else columns)
    rows = list(read_rows(path, require_label=True))
    assert [row.text for row in rows] == [text or "" for text in texts]
    assert [row.label for row in rows] == [1, 0] * 3
    assert rows[0].columns.keys() == {"image_path", "text", "label", "tags"}
    assert rows[0].columns["tags"] == "a;b"
    assert [row.problem for row in rows if row.problem] == ["the text is empty"]


@VIEWS
def test_views_in_a_dictionary_and_in_an_image(tmp_path: Path) -> None:
    numbers = pa.array([0, 1, 0], pa.int32())
    image = pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])
    columns = {
        "image_path": pa.array(
            [{"bytes": None, "path": "a.jpg"}, {"bytes": b"x", "path": "b"}, None], image
        ),
        "text": pa.DictionaryArray.from_arrays(numbers, views(["红色" * 20, "b"])),
    }
    first, second, third = read_rows(dataset(tmp_path / "a", columns), require_label=False)
    assert (first.image_path, first.text, first.problem) == ("a.jpg", "红色" * 20, None)
    assert open_image_file(second.image_path).read() == b"x"
    assert third.text == "红色" * 20


@VIEWS
def test_views_that_share_a_buffer_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow_values, "MAX_UNPACKED", 1000)
    columns = {"image_path": views(["a"] * 4), "text": views(["x" * 600] * 4)}
    rows = list(read_rows(dataset(tmp_path / "a", columns), require_label=False))
    assert [len(row.text) for row in rows] == [600] * 4
    monkeypatch.setattr(arrow_values, "MAX_UNPACKED", 100)
    with pytest.raises(InputError, match="a row holds 601 bytes"):
        list(read_rows(tmp_path / "a", require_label=False))


@pytest.mark.parametrize("kind", ["binary", "large_binary", "binary_view"])
def test_a_needed_column_of_bytes_is_named_with_its_type(tmp_path: Path, kind: str) -> None:
    if not hasattr(pa, kind):
        pytest.skip("this pyarrow has no views")
    columns = {"image_path": ["a.jpg"], "text": pa.array([b"red"], getattr(pa, kind)())}
    for path in (parquet(tmp_path / "a.parquet", columns), dataset(tmp_path / "a", columns)):
        with pytest.raises(InputError, match=f"column 'text' holds values of the type {kind}, "):
            read_header(path, require_label=False)
        with pytest.raises(InputError, match="write it as strings"):
            list(read_rows(path, require_label=False))
