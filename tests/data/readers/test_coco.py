"""mismatch.data.readers.coco: captions of COCO as rows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from mismatch.data.columns import Columns
from mismatch.data.pairs import all_columns, load_pairs, read_rows, reading_remark, scan_rows
from mismatch.data.readers import coco
from mismatch.errors import InputError
from tests.support.captions import write_coco

IMAGES = [{"id": 1, "file_name": "a.jpg", "width": 8}, {"id": 2, "file_name": "b.jpg"}]
NOTES = [
    {"image_id": 2, "id": 10, "caption": "a blue cup"},
    {"image_id": 1, "id": 11, "caption": "a red cup", "label": 1},
    {"image_id": 2, "id": 12, "caption": "one cup"},
]


def save(path: Path, **content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("images_first", [True, False])
def test_each_caption_is_a_row_of_its_image(
    tmp_path: Path, images_first: bool, indent: int | None
) -> None:
    lists = {"images": IMAGES, "annotations": NOTES}
    if not images_first:
        lists = dict(reversed(lists.items()))
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"info": {"a": [1]}, **lists, "licenses": []}, indent=indent))
    rows = list(read_rows(path, require_label=False))
    assert [(row.line, row.image_path, row.text) for row in rows] == [
        (1, "b.jpg", "a blue cup"),
        (2, "a.jpg", "a red cup"),
        (3, "b.jpg", "one cup"),
    ]
    assert rows[1].columns == {
        "image_path": "a.jpg",
        "image_id": "1",
        "id": "11",
        "text": "a red cup",
        "label": "1",
    }
    assert all_columns(path, require_label=False) == [
        *("image_path", "image_id", "id", "text", "label"),
    ]
    assert "it holds captions in COCO's form" in (reading_remark(path) or "")


def test_it_is_known_whatever_its_name(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "captions_train2014", [("a.jpg", "red"), ("a.jpg", "a red one")])
    assert [row.image_path for row in load_pairs(path, require_label=False)] == ["a.jpg", "a.jpg"]


def test_a_caption_of_no_image_is_named(tmp_path: Path) -> None:
    notes = [*NOTES, {"image_id": 3, "caption": "gone"}, {"image_id": None, "caption": "gone"}]
    path = save(tmp_path / "a.json", images=IMAGES, annotations=notes)
    *_, missing, nothing = scan_rows(path, lambda *_: None, require_label=False)
    assert "image_id 3 is the id of no image in 'images'" in (missing.problem or "")
    assert "image_id None is the id of no image" in (nothing.problem or "")
    with pytest.raises(InputError, match=r"a\.json:row 4: image_id 3"):
        load_pairs(path, require_label=False)


def test_an_id_of_two_images_is_no_image(tmp_path: Path) -> None:
    images = [*IMAGES, {"id": 1, "file_name": "c.jpg"}]
    path = save(tmp_path / "a.json", images=images, annotations=NOTES)
    problems = [row.problem for row in read_rows(path, require_label=False)]
    assert problems[0] is None
    assert "image_id 1 is the id of two images" in (problems[1] or "")


def test_a_name_that_no_file_can_have_is_a_problem_of_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(
        b'{"images": [{"id": 1, "file_name": "\xee.jpg"}, {"id": 2, "file_name": "b.jpg"}],'
        b' "annotations": [{"image_id": 1, "caption": "a"}, {"image_id": 2, "caption": "b"}]}'
    )
    wrong, right = read_rows(path, require_label=False)
    assert "its image, 1 of 'images': byte 0xee is not UTF-8" in (wrong.problem or "")
    assert (right.problem, right.image_path) == (None, "b.jpg")


def test_columns_may_be_asked_for(tmp_path: Path) -> None:
    notes = [{"image_id": 1, "raw": "said", "caption": "written", "file_name": "own"}]
    path = save(tmp_path / "a.json", images=IMAGES, annotations=notes)
    [row] = read_rows(path, require_label=False, columns=Columns(text="raw"))
    assert (row.text, row.image_path) == ("said", "a.jpg")
    assert row.columns["annotation_file_name"] == "own"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1,', "not JSON"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 2}], "annotations": []}', "image 2 of"),
        ('{"images": [{"id": 1, "file_name": "a"}]}', "there is no list 'annotations'"),
        ('{"annotations": [{"image_id": 1, "caption": "a"}]}', "there is no list 'images'"),
        (
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [], "annotations": []}',
            "'annotations' stands twice",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        list(read_rows(path, require_label=False))
    assert str(caught.value).startswith(f"{path}:")
    faults: list[int] = []
    list(scan_rows(path, lambda line, _: faults.append(line), require_label=False))
    assert faults


def test_names_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco, "MAX_IMAGES", 1)
    path = save(tmp_path / "a.json", images=IMAGES, annotations=NOTES)
    with pytest.raises(InputError, match="more than 1 images"):
        list(read_rows(path, require_label=False))


@pytest.mark.parametrize(
    "content",
    [
        b'{"image_path": "a.jpg", "text": "red", "images": ["a.jpg"]}',
        b'{"images": [{"path": "a.jpg"}], "text": "red"}',
        b"{}",
        b'{"images": ',
        b"[]",
    ],
)
def test_other_json_is_not_taken_for_it(content: bytes) -> None:
    assert coco.is_coco(io.BytesIO(content)) is False
