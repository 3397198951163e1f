"""mismatch.data.dataset_layout: which files of a repository are rows, and of which split."""

from __future__ import annotations

from pathlib import Path

import pytest

from mismatch.data.dataset_card import Subset
from mismatch.data.dataset_layout import chosen_files, files_pattern
from mismatch.data.shards import shard_files
from mismatch.errors import InputError

URL = "hf://datasets/o/n"
TWO_PARTS = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
TWO_SPLITS = [*TWO_PARTS, "data/test-00000-of-00001.parquet", "README.md", "load.py", ".x/a.csv"]
LANGUAGES = ["en/train.parquet", "en/test.parquet", "fr/train.parquet"]


@pytest.mark.parametrize(
    ("names", "part", "files"),
    [
        (TWO_SPLITS, "train", TWO_PARTS),
        (TWO_SPLITS, "test", TWO_SPLITS[2:3]),
        (TWO_SPLITS, TWO_PARTS[1], TWO_PARTS[1:]),
        (TWO_PARTS, "", TWO_PARTS),
        (TWO_PARTS, "data", TWO_PARTS),
        (["train.csv", "dataset_infos.json", "a.py"], "", ["train.csv"]),
        (["a.parquet", "b.parquet"], "", ["a.parquet", "b.parquet"]),
        (["default/train/0000.parquet", "default/val/0000.parquet"], "val", None),
        (["default/train/0000.parquet", "default/val/0000.parquet"], "validation", None),
        (["train/data-00000-of-00001.arrow", "train/state.json"], "train", None),
        (["data/extra-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], "extra", None),
        (LANGUAGES, "en/test", ["en/test.parquet"]),
        (LANGUAGES, "fr", ["fr/train.parquet"]),
        (["00000.tar", "00001.tar"], "", ["00000.tar", "00001.tar"]),
    ],
)
def test_what_a_part_means(names: list[str], part: str, files: list[str] | None) -> None:
    found = chosen_files(names, part, [], URL)
    if files is None:
        word = {"validation": "val"}.get(part, part)
        files = [name for name in names if word in name and "state" not in name]
    assert found == files


@pytest.mark.parametrize(
    ("names", "part", "urls"),
    [
        (TWO_SPLITS, "", ["/test ", "/train"]),
        (TWO_SPLITS, "data", ["/data/test ", "/data/train"]),
        (TWO_SPLITS, "dev", ["/test ", "/train"]),
        (LANGUAGES, "train", ["/en/train ", "/fr/train"]),
        (LANGUAGES, "", ["/en/train ", "/fr/train"]),
        (["train-0.csv", "train-1.csv"], "", ["/train-0.csv or", "/train-1.csv"]),
        (["train.csv", "train.parquet"], "", ["/train.csv or", "/train.parquet"]),
        (["train.csv", "lexicon.csv"], "", ["/lexicon.csv", "/train"]),
        (["a.zip", "run.py"], "", ["a.zip", "run.py", "CSV"]),
        (["a.zip", "b.csv"], "a.zip", ["/a.zip", "Parquet"]),
        (["x/metadata.csv", "x/1.jpg"], "", ["/x/metadata.csv", "hf download o/n"]),
    ],
)
def test_what_is_not_clear_is_refused_with_what_to_write(
    names: list[str], part: str, urls: list[str]
) -> None:
    with pytest.raises(InputError) as error:
        chosen_files(names, part, [], URL)
    for url in urls:
        assert url in str(error.value) + " "


def test_declared_splits_count_before_names() -> None:
    names = ["a/x.parquet", "a/y.parquet", "b/z.parquet", "train.parquet"]
    subsets = [
        Subset("one", False, {"train": ["a/*"], "held": ["b/z.parquet"]}),
        Subset("two", True, {"train": ["**/*.parquet"]}),
    ]
    assert chosen_files(names, "one/train", subsets, URL) == names[:2]
    assert chosen_files(names, "one/held", subsets[:1], URL) == names[2:3]
    assert chosen_files(names, "held", subsets[:1], URL) == names[2:3]
    assert chosen_files(names, "", subsets, URL) == names
    assert chosen_files(names, "two", subsets, URL) == names
    with pytest.raises(InputError, match=r"one/train or .*/one/held"):
        chosen_files(names, "one", subsets, URL)


@pytest.mark.parametrize(
    ("files", "pattern"),
    [
        (["a/b.csv"], "a/b.csv"),
        (TWO_PARTS, "data/train-{00000..00001}-of-00002.parquet"),
        (["a.parquet", "b.parquet"], "{a,b}.parquet"),
        (["x1.tar", "x3.tar"], "x{1,3}.tar"),
        (["x/9.tar", "x/10.tar"], "x/{9,10}.tar"),
        (["x/a/1.tar", "x/b/2.tar"], "x/{a/1,b/2}.tar"),
    ],
)
def test_one_name_for_several_files(tmp_path: Path, files: list[str], pattern: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert files_pattern(files) == pattern
    assert shard_files(tmp_path / pattern) == [tmp_path / file for file in files]


def test_too_many_names_without_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="name one of them"):
        files_pattern([f"{number**2:06}.parquet" for number in range(100)])
