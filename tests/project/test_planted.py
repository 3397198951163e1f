"""Faults planted into real rows: `mismatch validate` finds each, and blames no clean row."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.support.commands import run
from tests.support.rows import first_photos, read_rows

PLANTED = 50  # of each fault
PHOTOS = {"train": 1500, "test": 300}  # all of them in a whole run


@pytest.mark.slow
def test_planted_faults_are_found(fashion: Path, tmp_path: Path) -> None:
    """Rows of train.csv and test.csv with fifty of each fault: all are named with their rows, and
    no clean row is.
    """
    read = {
        name: read_rows(first_photos(fashion / f"{name}.csv", tmp_path / f"{name}.csv", count))
        for name, count in PHOTOS.items()
    }
    clean = len(read["train"])
    images = tmp_path / "images"
    images.mkdir()
    for path in {row["image_path"] for rows in read.values() for row in rows}:
        (tmp_path / path).symlink_to(fashion / path)
    draw = random.Random(0)
    rows, expected = list(read["train"]), {}
    sources = draw.sample(sorted({row["image_path"] for row in read["train"]}), 2 * PLANTED)
    leaks = draw.sample(sorted({row["image_path"] for row in read["test"]}), PLANTED)

    def plant(kind: str, row: dict[str, str], *more: dict[str, str]) -> None:
        rows.append(row)
        expected[len(rows) + 1] = kind  # the header is line 1
        rows.extend(more)

    for number in range(PLANTED):
        whole = (fashion / sources[number]).read_bytes()
        (images / f"corrupt{number}.jpg").write_bytes(draw.randbytes(2000))
        (images / f"cut{number}.jpg").write_bytes(whole[: len(whole) // 2])
        with Image.open(fashion / leaks[number]) as image:
            scale = draw.choice((0.5, 1, 2))
            image.resize((int(image.width * scale), int(image.height * scale))).save(
                images / f"leak{number}.jpg", quality=draw.randint(30, 95)
            )
        for kind in ("corrupt", "cut", "leak", "missing"):
            plant(
                kind,
                {
                    "image_path": f"images/{kind}{number}.jpg",
                    "text": f"planted {kind} {number}",
                    "label": str(number % 2),
                },
            )
        twin = read["train"][7 * number]
        plant("repeated", dict(twin))
        other = read["train"][7 * number + 3]
        plant("contradiction", other | {"label": str(1 - int(other["label"]))})
        plant(
            "long",
            {
                "image_path": sources[PLANTED + number],
                "text": " ".join(["a planted title of many words"] * 14 + [str(number)]),
                "label": "1",
            },
        )
        plant("empty", {"image_path": sources[PLANTED + number], "text": " ", "label": "1"})
    with (tmp_path / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("image_path", "text", "label"))
        writer.writeheader()
        writer.writerows(rows)
    args = (
        "validate",
        tmp_path / "train.csv",
        tmp_path / "test.csv",
        "--image-base-path",
        tmp_path,
        "--fix",
        tmp_path / "fixed.csv",
    )
    more = (
        "--allow-outside-images",
        "--backbone",
        "openclip:tiny",
        "--report",
        tmp_path / "report.json",
    )
    result = run(*args, *more)
    assert result.exit_code == 1, result.output
    rejected = read_rows(tmp_path / "fixed.rejected.csv")
    assert len(read_rows(tmp_path / "fixed.csv")) + len(rejected) == len(rows)
    reasons: dict[tuple[str, ...], str] = {
        (row["image_path"], row["text"], row["label"]): row["reason"] for row in rejected
    }
    words = {name: name for name in ("corrupt", "cut", "missing")}  # their files' names
    words |= {
        "leak": "near-duplicate",
        "repeated": "repeats line",
        "contradiction": "once as match",
        "empty": "the text is empty",
    }
    found = Counter(
        kind
        for line, kind in expected.items()
        if kind in words and words[kind] in reasons.get(tuple(rows[line - 2].values()), "")
    )
    assert found["leak"] >= 0.95 * PLANTED
    assert {kind: found[kind] for kind in words if kind != "leak"} == dict.fromkeys(
        (kind for kind in words if kind != "leak"), PLANTED
    )
    [long] = [
        one
        for one in json.loads((tmp_path / "report.json").read_text())["files"][0]["findings"]
        if one["kind"] == "long"
    ]
    assert long["lines"] == [line for line, kind in expected.items() if kind == "long"]
    blamed = [
        row
        for row in rejected
        if (row["image_path"], row["text"])
        in {(one["image_path"], one["text"]) for one in rows[:clean]}
    ]
    assert len(blamed) == 3 * PLANTED  # the repeated rows, and both sides of each contradiction
