"""mismatch.make_negatives and `mismatch make-negatives`: from matching pairs to labelled rows."""

from __future__ import annotations

import csv
import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from mismatch.errors import InputError
from tests.support import commands
from tests.support.rows import read_rows

COLOURS, ARTICLES = (
    ("Red", "Blue", "Green", "Black", "White", "Pink"),
    ("Shirt", "Skirt", "Watch", "Belt", "Bag"),
)


run = partial(commands.run, "make-negatives")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 pairs with a column of their own; the images of the first ten are each other's
    near-duplicates.
    """
    folder, draw = tmp_path_factory.mktemp("pairs"), random.Random(0)
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_path", "text", "sku"])
        for number in range(150):
            noise = np.random.default_rng(max(number, 9)).integers(
                0, 255, (4, 4, 3), dtype=np.uint8
            )
            Image.fromarray(noise).resize((32, 32)).save(folder / f"{number}.png")
            writer.writerow(
                [
                    f"{number}.png",
                    f"{draw.choice(COLOURS)} {draw.choice(ARTICLES)}, no. {number}",
                    f"S{number}",
                ]
            )
    return folder / "pairs.csv"


def test_a_labelled_file(pairs: Path, tmp_path: Path) -> None:
    result = run(pairs, "--image-base-path", pairs.parent, "--output", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    rows = read_rows(tmp_path / "out.csv")
    assert list(rows[0]) == ["image_path", "text", "sku", "label", "kind"]
    matches = [row for row in rows if row["kind"] == "match"]
    assert [
        {name: row[name] for name in ("image_path", "text", "sku")} for row in matches
    ] == read_rows(pairs)
    assert all((row["label"] == "1") == (row["kind"] == "match") for row in rows)
    text_of = {row["image_path"]: row["text"] for row in matches}
    alike = {text_of[f"{number}.png"] for number in range(10)}
    for row in rows:
        assert row["sku"] == f"S{row['image_path'][:-4]}"
        if row["label"] == "0":
            assert row["text"].split(",")[0] != text_of[row["image_path"]].split(",")[0]
            assert not (row["text"] in alike and text_of[row["image_path"]] in alike)
    assert "150 matches and 150 mismatches (75 random, 45 hard, 30 attribute)" in result.stdout
    assert "blind AUROC of the texts alone: 0." in result.stdout


def test_a_column_kind_of_the_users_own_stays(tmp_path: Path) -> None:
    rows = [
        {"image_path": f"{n}.png", "text": f"{colour} bag", "kind": f"sort {n}"}
        for n, colour in enumerate(COLOURS)
    ]
    more: dict[str, Any] = {"near_duplicates": False, "kinds": "random"}
    made = mismatch.make_negatives(rows, **more).rows
    assert {row["kind"] for row in made} == {"match", "random"}
    assert all(row["input_kind"] == f"sort {row['image_path'][0]}" for row in made)
    mismatch.make_negatives(rows, output=tmp_path / "made.csv", **more)
    written = read_rows(tmp_path / "made.csv")
    assert [row["input_kind"] for row in written] == [row["input_kind"] for row in made]
    # of an earlier result they are made again
    again = mismatch.make_negatives(tmp_path / "made.csv", **more).rows
    assert "input_input_kind" not in again[0]
    assert {row["kind"] for row in again} == {"match", "random"}


def test_the_seed_and_how_many(pairs: Path, tmp_path: Path) -> None:
    made = []
    for number, seed in enumerate((0, 0, 1)):
        path = tmp_path / f"{number}.csv"
        assert (
            run(
                pairs,
                "--no-near-duplicates",
                "--kinds",
                "random,attribute",
                "--per-positive",
                2,
                "--seed",
                seed,
                "--output",
                path,
            ).exit_code
            == 0
        )
        made.append(path.read_text())
    assert made[0] == made[1] != made[2]
    assert len(made[0].splitlines()) == 1 + 450


def test_labels_and_faults_in_the_file(pairs: Path, tmp_path: Path) -> None:
    header, *lines = pairs.read_text().splitlines()
    (tmp_path / "in.csv").write_text(
        "\n".join(
            [
                f"{header},label",
                *(f"{line},1" for line in lines),
                "0.png,a wrong text,x,0",
                "1.png,,x,1",
                "gone.png,red,x,1",
            ]
        )
    )
    result = run(
        tmp_path / "in.csv", "--image-base-path", pairs.parent, "--output", tmp_path / "out.csv"
    )
    assert result.exit_code == 0, result.output
    assert "1 row labelled 0 left out" in result.stdout
    assert "warning: 2 rows that can't be used left out" in result.stdout
    assert "in.csv:153: the text is empty" in result.stdout
    assert not {"a wrong text", "red"} & {row["text"] for row in read_rows(tmp_path / "out.csv")}


def test_labels_that_come_late_are_seen(pairs: Path, tmp_path: Path) -> None:
    rows = read_rows(pairs)
    late = rows + [row | {"label": 0} for row in rows]
    options: dict[str, Any] = {"image_base_path": pairs.parent, "output": tmp_path / "out.csv"}
    with pytest.raises(InputError, match="list:row 151: this object has a label"):
        mismatch.make_negatives(late, **options)
    assert not list(tmp_path.iterdir())
    assert not mismatch.audit(late, image_base_path=pairs.parent).ok


def test_a_lexicon_of_ones_own(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text('colour: [red, "blue, green"]\n')
    result = run(
        pairs,
        "--no-near-duplicates",
        "--lexicon",
        tmp_path / "more.yaml",
        "--kinds",
        "attribute",
        "--output",
        tmp_path / "out.csv",
    )
    assert result.exit_code == 0, result.output
    edits = [
        row["text"]
        for row in read_rows(tmp_path / "out.csv")
        if row["kind"] == "attribute" and "Red" in row["text"]
    ]
    # a colour that is in no class stays, and each word goes and comes as often
    assert 10 < len(edits) <= sum("Red" in row["text"] for row in read_rows(pairs))


def test_neighbours_by_a_backbone(pairs: Path, tmp_path: Path) -> None:
    result = run(
        pairs,
        "--no-near-duplicates",
        "--backbone",
        "hf-clip:tiny",
        "--kinds",
        "hard",
        "--output",
        tmp_path / "out.csv",
    )
    assert result.exit_code == 0, result.output
    assert " hard" in result.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["--kinds", "odd=1"],
            "there is no kind 'odd' of mismatches; random, hard, attribute are there",
        ),
        (["--kinds", "hard=x"], "'hard=x' is not KIND=SHARE"),
        (["--lexicon", "LIST"], "classes of words are needed"),
        (["--lexicon", "BROKEN"], "is not valid YAML"),
        (["--lexicon", "GONE"], "No such file"),
        (["--backbone", "no-such"], "no-such"),
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(
    args: list[str], said: str, pairs: Path, tmp_path: Path
) -> None:
    (tmp_path / "LIST").write_text("- a\n- b\n")
    (tmp_path / "BROKEN").write_text("a: [b\n")
    result = run(
        pairs,
        "--no-near-duplicates",
        "--output",
        tmp_path / "out.csv",
        args[0],
        tmp_path / args[1] if args[0] == "--lexicon" else args[1],
    )
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out.csv").exists()


def test_too_few_rows(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("image_path,text\na.png,\nb.png,red\n")
    result = run(tmp_path / "in.csv", "--no-near-duplicates", "--output", tmp_path / "out.csv")
    assert result.exit_code == 2
    assert "two or more matching rows are needed; line 2: the text is empty" in result.stderr


def test_an_image_that_cannot_be_read_is_named_with_its_line(tmp_path: Path) -> None:
    pytest.importorskip("imagehash")
    for name in ("a", "c"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    rows = tmp_path / "in.csv"
    rows.write_text("image_path,text\na.png,red\nb.png,blue\n,none\n")
    options: dict[str, Any] = {"output": tmp_path / "out.csv", "image_base_path": tmp_path}
    with pytest.raises(InputError, match=r"in\.csv: two or more .*; line 3: .*b\.png"):
        mismatch.make_negatives(rows, **options)
    rows.write_text(rows.read_text() + "c.png,green\n")
    result = mismatch.make_negatives(rows, **options)
    assert (result.matches, result.unusable) == (2, 2)
    assert (result.first_problem or "").startswith(f"{rows}:3: ")


def test_texts_that_give_labels_away_are_said(tmp_path: Path) -> None:
    """Few texts differ from the others: only these are left to be mismatches."""
    lines = [
        f"{number}.png,a {'red thing' if number % 10 else 'blue bag'} {number}"
        for number in range(300)
    ]
    (tmp_path / "in.csv").write_text("\n".join(["image_path,text", *lines]))
    result = mismatch.make_negatives(tmp_path / "in.csv", near_duplicates=False, kinds="random")
    assert result.blind_auroc is not None
    assert result.blind_auroc > 0.55
    assert result.telltales
    assert any("the texts give labels away" in line for line in result.summary())


def test_words_are_exchanged_both_ways_only(tmp_path: Path) -> None:
    lines = [
        f"{number}.png,{'red' if number % 10 else 'blue'} thing {number}" for number in range(300)
    ]
    (tmp_path / "in.csv").write_text("\n".join(["image_path,text", *lines]))
    made = mismatch.make_negatives(tmp_path / "in.csv", near_duplicates=False, kinds="attribute")
    edited = [row["text"] for row in made.rows if row["kind"] == "attribute"]
    assert sum("red" in text for text in edited) == sum("blue" in text for text in edited)


@pytest.fixture
def generic(tmp_path: Path) -> Path:
    """200 pairs with texts that are true of many of their images."""
    draw = random.Random(1)
    nouns = ["player", "sword", "map", "castle", "horse", "menu", "castle wall", "dragon"]
    lines = [f"{n}.png,a {draw.choice(nouns)} and a {draw.choice(nouns)}" for n in range(200)]
    (tmp_path / "in.csv").write_text("\n".join(["image_path,text", *lines]))
    return tmp_path / "in.csv"


def test_doubtful_mismatches_have_a_file_of_their_own(generic: Path, tmp_path: Path) -> None:
    options = ("--no-near-duplicates", "--kinds", "random", "--output", tmp_path / "out.csv")
    result = run(generic, *options)
    assert result.exit_code == 0, result.output
    doubtful = read_rows(tmp_path / "out.doubtful.csv")
    rows = read_rows(tmp_path / "out.csv")
    assert list(doubtful[0]) == list(rows[0])
    assert {row["label"] for row in doubtful} == {"0"}
    made = {row["image_path"] for row in rows if row["label"] == "0"}
    assert not made & {row["image_path"] for row in doubtful}
    assert f"{len(doubtful)} doubtful mismatches" in result.stdout
    assert "out.doubtful.csv" in result.stdout
    assert "of the mismatches are true of their images all the same" in result.stdout
    # neither is replaced unasked, and one that is not needed any more goes
    assert run(generic, *options).exit_code == 2
    generic.write_text("image_path,text\n" + "".join(f"{n}.png,red bag {n}\n" for n in range(9)))
    generic.write_text(
        generic.read_text() + "".join(f"{n}.png,blue hat {n}\n" for n in range(10, 19))
    )
    assert run(generic, *options, "--overwrite").exit_code == 0
    assert not (tmp_path / "out.doubtful.csv").exists()


def test_a_file_of_ones_own_under_the_doubtful_name_stays(generic: Path, tmp_path: Path) -> None:
    (tmp_path / "out.doubtful.csv").write_text("mine\n")
    result = run(generic, "--no-near-duplicates", "--overwrite", "--output", tmp_path / "out.csv")
    assert (result.exit_code, "out.doubtful.csv" in result.stderr) == (2, True)
    assert (tmp_path / "out.doubtful.csv").read_text() == "mine\n"
    assert not (tmp_path / "out.csv").exists()


def test_doubtful_mismatches_from_python(generic: Path) -> None:
    result = mismatch.make_negatives(generic, near_duplicates=False, kinds="random")
    assert result.doubtful == len(result.doubtful_rows) > 0
    assert 0 <= result.likely_true <= 0.05
    assert result.matches == result.mismatches + result.doubtful + result.missing
    frame = pytest.importorskip("pandas").read_csv(generic)
    of_frame = mismatch.make_negatives(frame, near_duplicates=False, kinds="random")
    assert list(of_frame.doubtful_rows.columns) == list(of_frame.rows.columns)
    assert set(result.blind_aurocs) == {"random"}


def test_the_input_is_never_written_over(pairs: Path) -> None:
    before = pairs.read_bytes()
    result = run(pairs, "--no-near-duplicates", "--output", pairs)
    assert (result.exit_code, pairs.read_bytes()) == (2, before)
    assert "pairs.csv is the input, which would be lost" in result.stderr


def test_from_python_it_makes_what_the_command_makes(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"image_base_path": str(pairs.parent), "seed": 3}
    result = mismatch.make_negatives(pairs, output=str(tmp_path / "python.csv"), **options)
    assert isinstance(result, mismatch.NegativesResult)
    assert capsys.readouterr() == ("", "")
    done = run(
        pairs,
        *("--image-base-path", pairs.parent, "--seed", 3),
        *("--output", tmp_path / "command.csv"),
    )
    assert f"blind AUROC of the texts alone: {result.blind_auroc:.3f}" in done.stdout
    assert (result.matches, result.mismatches, result.unusable) == (150, 150, 0)
    assert result.kinds == {"random": 75, "hard": 45, "attribute": 30}
    assert result.rows == tmp_path / "python.csv"
    assert result.rows.read_bytes() == (tmp_path / "command.csv").read_bytes()
    assert json.loads(json.dumps(result.to_dict()))["kinds"] == result.kinds


def test_from_python_without_a_file_it_returns_the_rows(pairs: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"image_base_path": pairs.parent, "kinds": {"random": 1, "hard": 1}}
    written = mismatch.make_negatives(pairs, output=tmp_path / "out.csv", **options)
    of_file = mismatch.make_negatives(pairs, **options)
    of_rows = mismatch.make_negatives(iter(read_rows(pairs)), **options)
    assert of_file.rows == of_rows.rows
    assert [{**row, "label": str(row["label"])} for row in of_rows.rows] == read_rows(written.rows)
    assert of_rows.to_dict() == written.to_dict()
    assert "image_path" not in repr(of_rows)


def test_a_frame_gives_a_frame(pairs: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(pairs).rename(columns={"text": "title"}).iloc[::-1]
    result = mismatch.make_negatives(frame, text_column="title", near_duplicates=False)
    assert list(result.rows.columns) == ["image_path", "title", "sku", "label", "kind"]
    assert result.rows.index.is_unique
    matches = result.rows[result.rows.label == 1]
    assert matches.title.tolist() == frame.title.tolist()
    assert set(result.rows.sku) == set(frame.sku)


def test_images_in_memory_stay_there(pairs: Path, tmp_path: Path) -> None:
    rows = [
        {"image": (pairs.parent / row["image_path"]).read_bytes(), "text": row["text"]}
        for row in read_rows(pairs)
    ]
    result = mismatch.make_negatives(rows)
    images = {row["text"]: row["image"] for row in rows}
    assert all(row["image"] == images[row["text"]] for row in result.rows if row["kind"] == "match")
    with pytest.raises(InputError, match=r"row 1: .*in memory.*`output`"):
        mismatch.make_negatives(rows, output=tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"per_positive": 0}, "`per_positive` is 0"),
        ({"per_positive": "2"}, "`per_positive` is '2'"),
        ({"seed": -1}, "`seed` is -1"),
        ({"kinds": {"hard": "much"}}, "`kinds`: 'hard=much' is not KIND=SHARE"),
        ({"kinds": 0.5}, "`kinds` is 0.5"),
        ({"kinds": {"odd": 1}}, "there is no kind 'odd'"),
        ({"image_base": "x"}, "did you mean 'image_base_path'"),
    ],
)
def test_wrong_options_of_python(pairs: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        mismatch.make_negatives(pairs, **{"near_duplicates": False, **options})


def test_what_a_row_holds_forges_no_line(tmp_path: Path) -> None:
    lines = ["image_path,text", '"a\nwarning: all is well\x1b[2J.png",red', "b.png,blue"]
    (tmp_path / "in.csv").write_text("\n".join(lines))
    for number in (1, 2, 3):
        Image.new("RGB", (8, 8), (90 * number, 0, 0)).save(tmp_path / f"{number}.png")
    with (tmp_path / "in.csv").open("a") as file:
        file.write("\n1.png,green hat\n2.png,grey hat\n3.png,red hat\n")
    result = run(
        tmp_path / "in.csv",
        *("--image-base-path", tmp_path, "--kinds", "random", "--output", tmp_path / "out.csv"),
    )
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    assert "warning: all is well" not in result.stdout.splitlines()
