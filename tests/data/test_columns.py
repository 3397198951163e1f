"""mismatch.data.columns: label names, several images, and paths that leave their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mismatch.data.columns import (
    Columns,
    locate_image,
    parse_label,
    usual_columns,
    usual_names,
)
from mismatch.errors import InputError, LabelError
from mismatch.io.remote import Remote


@pytest.mark.parametrize(
    ("label_map", "labels"),
    [
        ("", {"0": 0, "1": 1}),
        ("match/mismatch", {"0": 0, "1": 1, "match": 1, "mismatch": 0}),
        ("match=1,mismatch=0", {"0": 0, "1": 1, "match": 1, "mismatch": 0}),
        ("True/False", {"0": 0, "1": 1, "true": 1, "false": 0}),
        (
            " fits = 1 , not quite = 0, wrong=0",
            {"0": 0, "1": 1, "fits": 1, "not quite": 0, "wrong": 0},
        ),
        ("0=1,1=0", {"0": 1, "1": 0}),
        ("1=1,2=0", {"1": 1, "2": 0}),
        ("n/a=0,ok=1", {"0": 0, "1": 1, "n/a": 0, "ok": 1}),
    ],
)
def test_label_maps(label_map: str, labels: dict[str, int]) -> None:
    assert Columns(label_map=label_map).labels == labels


@pytest.mark.parametrize(
    "label_map",
    [
        "match",
        "match=1",
        "match=1,mismatch=2",
        "a=1,a=0",
        "/b",
        "a/b/c",
        "a=1;b=0",
        "a=,b=1",
        "=1,b=0",
    ],
)
def test_a_label_map_that_is_not_one_is_refused(label_map: str) -> None:
    with pytest.raises(InputError, match=r"`label_map` .* is not understood; write NAME=1,NAME=0"):
        Columns(label_map=label_map)


@pytest.mark.parametrize(("value", "label"), [("Match", 1), (" MISMATCH ", 0), ("1", 1), ("0", 0)])
def test_labels_by_name(value: str, label: int) -> None:
    assert parse_label(value, Columns(label_map="match/mismatch")) == label


@pytest.mark.parametrize(
    ("value", "label_map", "words"),
    [
        (
            "Match",
            "",
            r"label 'Match' is neither 0 nor 1 .*; the label map match/mismatch reads it",
        ),
        ("false", "", r"the label map true/false reads it"),
        ("maybe", "match/mismatch", r"label 'maybe' is none of 0, 1, match, mismatch"),
        ("0", "1=1,2=0", r"label '0' is none of 1, 2"),
        ("TRUE", "", r"the label map true/false reads it"),
        ("1.5", "", r"label '1.5' is neither 0 nor 1"),
        ("1.", "", r"label '1.' is neither 0 nor 1"),
        (" ", "match/mismatch", r"the label is empty; 0 or 1 or match or mismatch is needed"),
    ],
)
def test_a_label_that_is_none_says_what_may_stand_there(
    value: str, label_map: str, words: str
) -> None:
    with pytest.raises(LabelError, match=words):
        parse_label(value, Columns(label_map=label_map))


@pytest.mark.parametrize(
    ("value", "label_map", "label"),
    [
        ("1.0", "", 1),
        ("0.0", "", 0),
        ("1,0", "", 1),
        (" 1.00 ", "", 1),
        ("2.0", "1=1,2=0", 0),
        ("1.0", "match/mismatch", 1),
        ("0.0", "1=1,2=0", None),
        ("-1.0", "", None),
        ("1.0.0", "", None),
        ("１.0", "", None),
        ("", "", None),
    ],
)
def test_a_whole_number_may_have_a_fraction_of_zeros(
    value: str, label_map: str, label: int | None
) -> None:
    assert Columns(label_map=label_map).label_of(value) == label


@pytest.mark.parametrize(("image", "text"), [("a", "a"), ("", "text"), ("text", "text")])
def test_three_different_columns_are_needed(image: str, text: str) -> None:
    with pytest.raises(InputError, match="three different names are needed"):
        Columns(image=image, text=text)


@pytest.mark.parametrize(
    ("columns", "header", "names"),
    [
        (Columns(), ["image_path", "text", "label", "sku"], ["image_path", "text", "label", "sku"]),
        (
            Columns(image="photo", text="title", label="y"),
            ["title", "photo", "y"],
            ["text", "image_path", "label"],
        ),
        (
            Columns(image="photo"),
            ["image_path", "photo", "text"],
            ["input_image_path", "image_path", "text"],
        ),
        (
            Columns(image="photo"),
            ["image_path", "input_image_path", "photo"],
            ["input_input_image_path", "input_image_path", "image_path"],
        ),
        (Columns(image="text", text="image_path"), ["image_path", "text"], ["text", "image_path"]),
    ],
)
def test_columns_are_called_alike_wherever_they_come_from(
    columns: Columns, header: list[str], names: list[str]
) -> None:
    assert columns.named(header) == names


def test_images_are_told_apart_only_where_there_may_be_several() -> None:
    assert Columns().images("a.jpg;b.jpg") == ["a.jpg;b.jpg"]
    assert Columns(multi_image="best").images(" a.jpg ;; b.jpg;") == ["a.jpg", "b.jpg"]
    assert Columns(multi_image="all").path_problem(" ; ") == "the image_path is empty"
    with pytest.raises(InputError, match="best or all is needed"):
        Columns(multi_image="any")  # type: ignore[arg-type]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """data/, with links to folders, data/near → data/deep/down and data/far → elsewhere/deep, and
    to files.
    """
    (tmp_path / "data" / "deep" / "down").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "near").symlink_to(tmp_path / "data" / "deep" / "down")
    (tmp_path / "data" / "far").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "data" / "link.jpg").symlink_to("../elsewhere/deep/a.jpg")
    (tmp_path / "data" / "inner.jpg").symlink_to("deep/a.jpg")
    (tmp_path / "data" / "loop.jpg").symlink_to("loop.jpg")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("image", "leaves"),
    [
        ("a.jpg", False),
        ("deep/a.jpg", False),
        ("a..b.jpg", False),
        ("..a.jpg", False),
        ("deep/../a.jpg", False),
        ("gone/../a.jpg", False),
        ("../a.jpg", True),
        ("..", True),
        ("../data/a.jpg", False),
        ("../data2/a.jpg", True),
        ("deep/../../a.jpg", True),
        ("/etc/passwd", True),
        ("{base}/a.jpg", False),
        ("{base}2/a.jpg", True),
        ("{base}/../a.jpg", True),
        ("near/../a.jpg", False),  # data/deep/a.jpg
        ("near/../../../a.jpg", True),
        ("far/a.jpg", True),  # elsewhere/deep/a.jpg
        ("near/a.jpg", False),
        ("link.jpg", True),
        ("inner.jpg", False),
        ("loop.jpg", False),  # which opening it says
        ("a\0.jpg", False),
        ("x/" * 20_000 + "a.jpg", False),
        ("far/../a.jpg", True),  # elsewhere/a.jpg
    ],
)
def test_paths_that_leave_the_base(
    base: Path, image: str, leaves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    for inside in (str(base), "data", "data/", "./data", "data/deep/.."):
        problem = Columns(inside=inside).path_problem(image.format(base=base))
        assert (problem is not None) is leaves, (inside, problem)
        if problem:
            assert problem.endswith(
                f"leaves the image base path {inside}; allow outside images if it may lie elsewhere"
            )
    assert Columns().path_problem(image.format(base=base)) is None


def test_each_of_several_images_is_looked_at(base: Path) -> None:
    assert "'../b.jpg' leaves" in (
        Columns(multi_image="all", inside=str(base)).path_problem("a.jpg;../b.jpg") or ""
    )


def test_the_working_directory_as_base(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    assert Columns(inside=".").path_problem(f"..{os.sep}a.jpg") is not None
    assert Columns(inside=".").path_problem(f"{base}{os.sep}a.jpg") is None


def test_only_a_url_as_base_makes_an_image_of_a_row_remote() -> None:
    base = Remote.of("s3://shop/images")
    assert locate_image(Path("data"), "a.jpg") == Path("data/a.jpg")
    assert locate_image(base, "a.jpg") == Remote("s3://shop", "images/a.jpg")
    assert locate_image(base, "s3://other/a.jpg", outside=True) == Remote("s3://other", "a.jpg")
    for outside in (False, True):
        with pytest.raises(InputError, match="`fetch_images` says so"):
            locate_image(Path("data"), "https://shop.example/a.jpg", outside=outside)
        for address in ("s3://shop/images/a.jpg", "file:///etc/passwd"):
            with pytest.raises(
                InputError,
                match=(
                    "is an address; only what lies below an image base path that is a URL is"
                    " fetched"
                ),
            ):
                locate_image(Path("data"), address, outside=outside)


@pytest.mark.parametrize("image", ["../a.jpg", "s3://shop/a.jpg", "s3://other/images/a.jpg"])
def test_names_that_leave_a_url(image: str) -> None:
    wanted = (
        "leaves the image base path s3://shop/images; allow outside images if it may lie elsewhere"
    )
    assert str(Columns(inside="s3://shop/images/").path_problem(image)).endswith(wanted)
    assert str(
        Columns(inside="s3://shop/images/", multi_image="all").path_problem(f"b.jpg;{image}")
    ).endswith(wanted)
    assert Columns(inside="s3://shop/images").path_problem("deep/../a.jpg") is None
    assert Columns(inside="s3://shop/images").path_problem("s3://shop/images/a.jpg") is None


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (["file_name", "caption"], {"file_name": "image_path", "caption": "text"}),
        (["image_path", "Title"], {"Title": "text"}),
        (["Image Path", "image", "text"], {"Image Path": "image_path"}),
        (["image_path", "title", "caption"], {}),
        (["image", "file", "title"], {"title": "text"}),
        (["image_path", "text", "title"], {}),
        (["image_path", "text", "is_match"], {}),
        (["image_path", "words"], {}),
    ],
)
def test_a_usual_name_that_stands_alone_is_taken(header: list[str], taken: dict[str, str]) -> None:
    assert usual_columns(header, Columns(), {}) == taken


def test_what_is_asked_for_or_of_the_format_counts_before_usual_names() -> None:
    header = ["file_name", "image", "caption", "title"]
    assert usual_columns(header, Columns(), {"image_path": "file_name", "text": "caption"}) == {
        "file_name": "image_path",
        "caption": "text",
    }
    assert usual_columns(header, Columns("photo", "words"), {}) == {}
    assert usual_names(header, "image_path") == ["file_name", "image"]
