"""The audit: each image once, all problems counted, and warnings about labels, sizes and repeats;
and its page, which needs nothing beside it and believes nothing that stands in the files.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mismatch.data.audit.files import size_advice, validate_files
from mismatch.data.audit.report import Audit
from mismatch.data.columns import Columns
from mismatch.errors import ImageError, ImageNotFoundError, InputError
from mismatch.runtime.preprocess import open_image

HEADER = ("image_path", "text", "label")
PICTURE = Image.effect_noise((8, 8), 80).convert("RGB")


def check(path: Path) -> Image.Image:
    """A stand-in decoder: the name says what is wrong."""
    if "gone" in path.name:
        raise ImageNotFoundError(f"image {path} not found")
    if "bad" in path.name:
        raise ImageError(f"image {path} is damaged")
    return PICTURE


def noted(seen: list[Any], path: object) -> Image.Image:
    seen.append(path)
    return PICTURE


@pytest.fixture
def audit(tmp_path: Path, write_rows: Any) -> Callable[..., Audit]:
    """Audit rows as a.csv, b.csv, …"""

    def run(
        *files: list[tuple[Any, ...]], header: tuple[str, ...] = HEADER, **options: Any
    ) -> Audit:
        paths = [
            write_rows(tmp_path / f"{name}.csv", [header, *rows])
            for name, rows in zip("abc", files, strict=False)
        ]
        return validate_files(paths, **{"check_image": check} | options)

    return run


def warnings_of(report: Audit) -> str:
    return "\n".join(
        [*report.warnings, *(warning for file in report.files for warning in file.warnings)]
    )


def test_each_image_is_decoded_once_whatever_the_rows_and_files_that_name_it(audit: Any) -> None:
    seen: list[str] = []
    rows = [("x.jpg", f"text {i}", i % 2) for i in range(20)]
    report = audit(
        rows,
        [("./x.jpg", "text", 1), ("y.jpg", "text", 0)],
        check_image=lambda path: noted(seen, str(path)),
    )
    assert report.ok
    assert sorted(seen) == ["x.jpg", "y.jpg"]


def test_a_broken_image_is_a_problem_of_every_row_that_names_it(audit: Any) -> None:
    report = audit(
        [("bad.jpg", "a", 1), ("good.jpg", "b", 0), ("bad.jpg", "c", 0), ("gone.jpg", "", 1)]
    )
    [file] = report.files
    assert [(line, message.split()[-1]) for line, message in file.problems] == [
        (2, "damaged"),
        (4, "damaged"),
        (5, "found"),
        (5, "empty"),
    ]
    assert (file.problem_count, file.unusable, file.bad_images) == (4, 3, 2)
    assert report.verdict() == "not fit to train on: 4 problems, 3 of 4 rows can't be used"


def test_images_are_relative_to_the_base_path(audit: Any, tmp_path: Path) -> None:
    seen: list[Path] = []
    audit(
        [("a/x.jpg", "t", 1), ("/abs/y.jpg", "t", 0)],
        image_base_path=tmp_path,
        check_image=lambda path: noted(seen, path),
    )
    assert set(seen) == {tmp_path / "a/x.jpg", Path("/abs/y.jpg")}


def test_only_the_first_problems_are_kept_in_order_of_lines_and_all_are_counted(audit: Any) -> None:
    rows = [("bad.jpg" if i % 2 else "good.jpg", "t", "1" if i % 2 else "no") for i in range(100)]
    [file] = audit(rows, max_problems=5).files
    assert [line for line, _ in file.problems] == [2, 3, 4, 5, 6]
    assert file.problem_count == 100
    rest = [line for line in audit(rows, max_problems=5).lines() if "… and" in line]
    assert rest == [
        f"{file.path}: … and 47 more wrong labels",
        f"{file.path}: … and 48 more images that can't be decoded",
    ]


def test_without_a_label_column_texts_and_images_are_still_checked(audit: Any) -> None:
    [file] = audit([("gone.jpg", "a"), ("x.jpg", "")], header=("image_path", "text")).files
    assert [line for line, _ in file.problems] == [1, 2, 3]
    assert file.unusable == 2


def test_without_a_text_column_labels_and_images_are_still_checked(audit: Any) -> None:
    [file] = audit([("gone.jpg", "1"), ("x.jpg", "2")], header=("image_path", "label")).files
    assert [line for line, _ in file.problems] == [1, 2, 3]
    assert "label '2'" in file.problems[2][1]


def test_a_row_that_does_not_line_up_says_nothing_of_images(audit: Any) -> None:
    [file] = audit([("gone.jpg", "a", "b", "1"), ("x.jpg", "a", "1")]).files
    assert [line for line, _ in file.problems] == [2]
    assert list(file.images) == ["x.jpg"]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"", 1, "empty"),
        (b"image_path,text,label\n", 1, "no rows"),
        ("image_path,text,label\nx.jpg,red,1\n".encode("utf-16-le"), 1, "not plain text"),
        (
            b"image_path,text,label\nx.jpg,caf\xe9,1\nx.jpg,red,1\nx.jpg,\xff,0\n",
            2,
            "byte 0xe9 is not UTF-8",
        ),
        (b'image_path,text,label\nx.jpg,red,1\nx.jpg,"red,1\nx.jpg,red,0\n', 3, "never closes"),
        (b"image_path,text,text,label\nx.jpg,red,red,1\n", 1, "'text' stands twice"),
    ],
    ids=["empty", "header only", "utf-16", "latin-1", "open quote", "twice"],
)
def test_a_fault_of_the_file_is_reported_beside_the_others(
    tmp_path: Path, content: bytes, line: int, words: str
) -> None:
    (tmp_path / "odd.csv").write_bytes(content)
    (tmp_path / "more.csv").write_text("image_path,text,label\nbad.jpg,red,1\n", encoding="utf-8")
    report = validate_files([tmp_path / "odd.csv", tmp_path / "more.csv"], check_image=check)
    assert not report.ok
    assert report.files[0].problems[0][0] == line
    assert words in report.files[0].problems[0][1]
    assert report.files[1].problem_count == 1


def test_after_a_fault_reading_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        b'image_path,text,label\nx.jpg,a "red" one,1\nx.jpg,"a "red"'
        b' one",1\nx.jpg,\xff,0\nx.jpg,red,maybe\n'
    )
    [file] = validate_files([tmp_path / "a.csv"], check_image=check).files
    assert [line for line, _ in file.problems] == [3, 4, 5]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([1] * 10, "no row is labelled 0 (mismatch)"),
        ([0] * 10, "no row is labelled 1 (match)"),
        ([1] * 9 + [0], "only 10.0% of the rows are labelled 0 (mismatch)"),
        ([0] * 81 + [1] * 19, "only 19.0% of the rows are labelled 1 (match)"),
        ([0] * 80 + [1] * 20, None),
    ],
)
def test_lopsided_labels_are_a_warning(audit: Any, labels: list[int], words: str | None) -> None:
    report = audit([("x.jpg", f"t{i}", label) for i, label in enumerate(labels)])
    assert report.ok
    assert words in warnings_of(report) if words else "labelled" not in warnings_of(report)


def test_a_pair_with_both_labels_and_repeats_are_warnings(audit: Any) -> None:
    report = audit(
        [("x.jpg", "red", 1), ("y.jpg", "red", 0), ("./x.jpg", "red ", 0), ("y.jpg", "red", 0)]
    )
    assert report.ok
    assert "once as match and once as mismatch: lines 2 and 4;" in warnings_of(report)
    assert "1 row repeats an earlier one" in warnings_of(report)


def test_images_in_two_files_are_a_warning(audit: Any) -> None:
    report = audit(
        [("x.jpg", "red", 1), ("y.jpg", "red", 0)], [("x.jpg", "blue", 0), ("z.jpg", "blue", 1)]
    )
    assert "a.csv and " in report.warnings[1]
    assert "share 1 image;" in report.warnings[1]
    assert len(report.warnings) == 2


def test_texts_in_two_files_are_a_warning_with_their_lines(audit: Any) -> None:
    train = [(f"{i}.jpg", f"Red shirt, size {i}", i % 2) for i in range(10)]
    test = [
        ("x.jpg", "size 3 red SHIRT", 1),
        ("y.jpg", "blue shirt", 0),
        ("z.jpg", "Red shirt, size 4", 0),
    ]
    warning = audit(train, test).warnings[-1]
    assert f"2 texts of {warning.split(' of ')[1].split(' (')[0]} (lines 2, 4) stand in " in warning
    assert "word for word or nearly: 66.7% of its texts" in warning
    assert "texts of" not in warnings_of(audit(train, [("y.jpg", "blue shirt", 0)]))


def test_an_image_that_stands_everywhere_is_named(audit: Any) -> None:
    rows = [(f"{i}.jpg", f"t{i}", i % 2) for i in range(300)] + [
        ("none.png", f"u{i}", i % 2) for i in range(40)
    ]
    [finding] = [
        finding for finding in audit(rows).files[0].findings if finding.kind == "common-image"
    ]
    assert finding.message.startswith(
        "the image none.png stands in 40 rows (lines 302, 303, 304, …); a picture for that many"
        " texts"
    )
    assert (finding.count, len(finding.lines)) == (40, 40)
    few = [(f"{i // 8}.jpg", f"t{i}", i % 2) for i in range(400)]
    assert [finding.kind for finding in audit(few).files[0].findings] == [], (
        "every image in eight rows is a way to make mismatches"
    )


def test_images_that_tell_the_labels_are_named(tmp_path: Path, write_rows: Any) -> None:
    draw = random.Random(0)
    for number in range(200):
        Image.new(
            "RGB", (64, 64), (draw.randrange(256), draw.randrange(256), 200 if number % 2 else 60)
        ).save(tmp_path / f"{number}.png")
    rows = [(f"{number}.png", f"text {draw.random()}", number % 2) for number in range(200)]
    path = write_rows(tmp_path / "a.csv", [HEADER, *rows])
    report = validate_files([path], tmp_path, check_image=open_image, duplicates=True)
    [finding] = [finding for finding in report.files[0].findings if finding.kind == "blind-image"]
    assert finding.message.startswith(
        "images alone tell the labels (AUROC 1.00), so that a model could ignore the texts"
    )
    path = write_rows(
        tmp_path / "b.csv", [HEADER, *((image, text, draw.randrange(2)) for image, text, _ in rows)]
    )
    report = validate_files([path], tmp_path, check_image=open_image, duplicates=True)
    assert "blind-image" not in [finding.kind for finding in report.files[0].findings]


def test_a_label_that_does_not_say_which_of_several_images_it_is_about_is_a_problem(
    audit: Any,
) -> None:
    rows = [("a.jpg;b.jpg", "red", 1), ("a.jpg;b.jpg", "blue", 0), ("a.jpg", "green", 1)]
    [file] = audit(rows, columns=Columns(multi_image="best")).files
    assert [line for line, _ in file.problems] == [2]
    assert "does not say which one matches" in file.problems[0][1]
    assert set(file.images) == {"a.jpg", "b.jpg"}


def test_a_wrong_base_path_is_told_from_single_missing_images(audit: Any, tmp_path: Path) -> None:
    assert f"{tmp_path}/gone1.jpg" in warnings_of(
        audit([("gone1.jpg", "a", 1), ("gone2.jpg", "b", 0)], image_base_path=tmp_path)
    )
    assert "base-path" not in warnings_of(audit([("gone1.jpg", "a", 1), ("x.jpg", "b", 0)]))
    assert "base-path" not in warnings_of(audit([("gone1.jpg", "a", 1), ("bad.jpg", "b", 0)]))


@pytest.mark.parametrize(
    ("rows", "start"),
    [
        (1, "1 training row: too few"),
        (499, "499 training rows: too few"),
        (500, "500 training rows: enough to begin"),
        (4999, "4,999"),
    ],
)
def test_small_sets_are_warned_of(rows: int, start: str) -> None:
    assert (size_advice(rows) or "").startswith(start)


@pytest.mark.parametrize("rows", [5_000, 1_000_000])
def test_large_sets_are_not(rows: int) -> None:
    assert size_advice(rows) is None


def test_the_size_of_the_largest_file_counts(audit: Any) -> None:
    report = audit(
        [("x.jpg", f"t{i}", i % 2) for i in range(5_000)], [("y.jpg", "t", 1), ("y.jpg", "u", 0)]
    )
    assert report.warnings == []


def test_progress_hears_of_every_row_and_image(audit: Any) -> None:
    calls: list[Any] = []

    @contextmanager
    def progress(label: str, total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
        calls.append((label, total, unit))
        yield calls.append

    audit([(f"{i}.jpg", "t", i % 2) for i in range(30)], progress=progress)
    assert calls == [
        ("read rows", None, "row"),
        *[1] * 30,
        ("check images", 30, "image"),
        *[1] * 30,
    ]


def test_a_file_that_can_not_be_opened_raises(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.csv: No such file"):
        validate_files([tmp_path / "absent.csv"], check_image=check)


def test_the_report_is_plain_json(audit: Any) -> None:
    report = audit([("bad.jpg", "a", 1), ("x.jpg", "b", 0)])
    [file] = report.to_dict()["files"]
    assert file["problems"] == [{"line": 2, "problem": "image bad.jpg is damaged"}]
    assert {
        key: file[key]
        for key in (
            "ok",
            "rows",
            "unusable_rows",
            "labels",
            "images",
            "bad_images",
            "texts",
            "problem_count",
        )
    } == {
        "ok": False,
        "rows": 2,
        "unusable_rows": 1,
        "labels": {"0": 1, "1": 1},
        "images": 2,
        "bad_images": 1,
        "texts": 2,
        "problem_count": 1,
    }
