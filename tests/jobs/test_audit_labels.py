"""`mismatch audit-labels`: planted label errors come first, every row comes out once, and what
can't be judged is said.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

import mismatch
from mismatch.backbones.registry import families
from mismatch.data.drawing import ARTICLES, COLOURS, Combination, draw
from mismatch.errors import InputError
from mismatch.jobs import audit_labels as job
from tests.support.commands import run
from tests.support.rows import read_rows

pytestmark = pytest.mark.usefixtures("one_thread")
PHOTOS = 200
BRANDS = ("Norvik", "Ostara", "Fennel", "Marlo", "Halden", "Birch", "Quill", "Lume")
MODEL = "openclip:tiny"
THOROUGH = ("--folds", "3", "--repeats", "2")
QUICK = ("--folds", "2", "--repeats", "1")  # where nothing is asked of how good the heads are
Rows = list[dict[str, str]]


def audit(*args: object) -> Result:
    return run("audit-labels", *args)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def plant(
    rows: Sequence[dict[str, Any]], share: float = 0.05, seed: int = 7
) -> list[dict[str, Any]]:
    """A share of the labels turned round, and which in a column `planted`."""
    wrong = set(
        np.random.default_rng(seed)
        .choice(len(rows), round(share * len(rows)), replace=False)
        .tolist()
    )
    return [
        row
        | {
            "label": 1 - int(row["label"]) if i in wrong else row["label"],
            "planted": int(i in wrong),
        }
        for i, row in enumerate(rows)
    ]


def found_in(ranked: Rows, share: float) -> float:
    """Of the planted ones, how many stand in the first `share` of the ranking, 0..1."""
    planted = [int(row["planted"]) for row in ranked]
    return sum(planted[: int(share * len(ranked))]) / sum(planted)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of one plain article each, with its colour and with another one for a text; rows.csv
    has 5 % of its labels wrong, and bad rows at the end.
    """
    folder = tmp_path_factory.mktemp("shop")
    chance, rows = np.random.default_rng(0), []
    for number in range(PHOTOS):
        article, colour = (
            ARTICLES[number // len(COLOURS) % len(ARTICLES)],
            COLOURS[number % len(COLOURS)],
        )
        other = COLOURS[(number + int(chance.integers(1, len(COLOURS)))) % len(COLOURS)]
        draw(
            Combination(article, colour, "plain", 1), np.random.default_rng((0, number)), 64, 0
        ).save(folder / f"{number}.png")
        brands = [BRANDS[i] for i in chance.integers(0, len(BRANDS), 2)]
        names = zip((colour, other), brands, strict=True)
        rows += [
            {
                "image_path": f"{number}.png",
                "text": f"{brand} {name} {article}",
                "label": int(name == colour),
            }
            for name, brand in names
        ]
    planted = plant(rows)
    Image.new("RGB", (9, 9)).save(folder / "small.png")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:80])
    bad = [
        ("cut.png", "red mug", 1),
        ("absent.png", "red mug", 0),
        ("small.png", " ", 1),
        ("small.png", "red mug", "yes"),
    ]
    write(
        folder / "rows.csv",
        [
            *planted,
            *(
                {"image_path": image, "text": text, "label": label, "planted": 0}
                for image, text, label in bad
            ),
        ],
    )
    return folder


def ranking(shop: Path, name: str, *options: str) -> tuple[Rows, Result]:
    """The ranking of rows.csv in ranked-NAME.csv, and what was said."""
    table = shop / f"ranked-{name}.csv"
    page = shop / f"gallery-{name}.html"
    files = ("--csv", shop / "rows.csv", "--image-base-path", shop, "--cache", shop / "cache")
    result = audit("--model", MODEL, *files, "--output", table, "--report", page, *options)
    assert result.exit_code == 0, result.output
    return read_rows(table), result


@pytest.fixture(scope="module")
def ranked(shop: Path) -> tuple[Rows, Result]:
    """The ranking by good heads, and what was said."""
    return ranking(shop, "thorough", *THOROUGH)


@pytest.fixture(scope="module")
def quickly(shop: Path) -> tuple[Rows, Result]:
    """The ranking by few heads, and what was said."""
    return ranking(shop, "quick", *QUICK)


def test_a_table_with_a_column_of_ones_own_is_not_replaced(
    shop: Path, quickly: tuple[Rows, Result], tmp_path: Path
) -> None:
    path = tmp_path / "checked.csv"
    table = quickly[0]
    write(path, [{"image_path": row["image_path"], "checked": "yes", **row} for row in table])
    files = ("--csv", shop / "rows.csv", "--image-base-path", shop, "--output", path)
    result = audit("--model", MODEL, *files, *QUICK)
    assert (result.exit_code, "checked.csv" in result.stderr) == (2, True)
    assert read_rows(path)[0]["checked"] == "yes"


def test_planted_errors_come_first(ranked: tuple[Rows, Result]) -> None:
    rows = [row for row in ranked[0] if row["status"] == "ok"]
    assert found_in(rows, 0.1) >= 0.9
    assert found_in(rows[::-1], 0.5) == 0


def test_every_row_comes_out_once_with_its_columns(shop: Path, ranked: tuple[Rows, Result]) -> None:
    rows, given = ranked[0], read_rows(shop / "rows.csv")
    assert list(rows[0]) == [
        *given[0],
        "rank",
        "label_error_score",
        "out_of_sample_probability",
        "reason",
        "status",
    ]
    assert sorted(tuple(row[name] for name in given[0]) for row in rows) == sorted(
        tuple(row.values()) for row in given
    )
    good = rows[: 2 * PHOTOS]
    assert [int(row["rank"]) for row in good] == list(range(1, 2 * PHOTOS + 1))
    scores = [float(row["label_error_score"]) for row in good]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] < scores[0] <= 1


def test_rows_that_cant_be_scored_stand_at_the_end_and_say_why(ranked: tuple[Rows, Result]) -> None:
    bad = ranked[0][2 * PHOTOS :]
    assert [
        (row["rank"], row["label_error_score"], row["out_of_sample_probability"], row["reason"])
        for row in bad
    ] == [("", "", "", "")] * 4
    for row, why in zip(
        bad,
        ("cut.png", "absent.png", "the text is empty", "label 'yes' is neither 0 nor 1"),
        strict=True,
    ):
        assert why in row["status"]
    assert "4 rows could not be scored and stand at the end" in ranked[1].output


def test_the_reason_agrees_with_the_figures(ranked: tuple[Rows, Result]) -> None:
    for row in ranked[0][: 2 * PHOTOS]:
        found = re.fullmatch(
            r"labelled (match|mismatch), (but|and) heads trained without it give (\d\.\d\d); \d+ of"
            r" its 10 nearest pairs are \w+",
            row["reason"],
        )
        assert found, row["reason"]
        assert found[1] == ("mismatch", "match")[int(row["label"])]
        assert float(found[3]) == pytest.approx(float(row["out_of_sample_probability"]), abs=0.0051)
        assert (found[2] == "but") == (
            (float(row["out_of_sample_probability"]) >= 0.5) != (row["label"] == "1")
        )


def test_the_share_of_wrong_labels_is_told_with_its_range(ranked: tuple[Rows, Result]) -> None:
    found = re.search(
        r"about ([\d.]+) % of 400 labels look wrong \(\d+\), ([\d.]+) to ([\d.]+) % with",
        ranked[1].output,
    )
    assert found, ranked[1].output
    assert float(found[2]) <= 5 <= float(found[3])


def test_a_second_run_is_the_same_and_top_cuts_it(
    shop: Path, quickly: tuple[Rows, Result], tmp_path: Path
) -> None:
    files = (
        "--csv",
        shop / "rows.csv",
        "--image-base-path",
        shop,
        "--output",
        tmp_path / "top.csv",
        "--cache",
        shop / "cache",
    )
    assert audit("--model", MODEL, *files, *QUICK, "--top", 12).exit_code == 0
    assert read_rows(tmp_path / "top.csv") == quickly[0][:12]


def test_the_gallery_shows_the_first_rows(shop: Path, quickly: tuple[Rows, Result]) -> None:
    page = (shop / "gallery-quick.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 100
    shown = re.findall(r'class="text">([^<]*)<.*?(\d+)\. <span', page, re.DOTALL)
    assert shown == [(row["text"], row["rank"]) for row in quickly[0][:100]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("0.png", "red mug", 1), ("1.png", "red mug", 0)], "2 usable rows are too few"),
        ([(f"{i}.png", "red mug", 1) for i in range(60)], "every label is 1"),
        (
            [("0.png", f"red mug {i}", i % 2) for i in range(60)],
            "1 different images are too few for 2 folds",
        ),
        (
            [(f"none{i}.png", f"red mug {i}", i % 2) for i in range(60)],
            "not one of its 60 rows can be scored",
        ),
    ],
)
def test_what_cant_be_judged_is_refused_in_words(
    shop: Path, tmp_path: Path, rows: Sequence[tuple[str, str, int]], said: str
) -> None:
    file = write(
        tmp_path / "few.csv",
        [dict(zip(("image_path", "text", "label"), row, strict=True)) for row in rows],
    )
    result = audit(
        "--model",
        MODEL,
        "--csv",
        file,
        "--image-base-path",
        shop,
        "--output",
        tmp_path / "out.csv",
        "--cache",
        shop / "cache",
        *QUICK,
    )
    assert (result.exit_code, said in result.output) == (2, True), result.output
    assert not (tmp_path / "out.csv").exists()


def test_the_input_is_never_written_over(shop: Path) -> None:
    before = (shop / "rows.csv").read_bytes()
    for option in ("--output", "--report"):
        other = ("--output", shop / "x.csv") if option == "--report" else ()
        result = audit(
            "--model", MODEL, "--csv", shop / "rows.csv", option, shop / "rows.csv", *other
        )
        assert (result.exit_code, "is the input" in result.output) == (2, True)
    assert (shop / "rows.csv").read_bytes() == before


def test_a_folder_that_is_not_there_is_said_first(shop: Path) -> None:
    result = audit(
        "--model", "absent", "--csv", shop / "rows.csv", "--output", shop / "none" / "out.csv"
    )
    assert (result.exit_code, "there is no folder" in result.output) == (2, True)


def test_columns_called_as_ours_are_kept_under_other_names(shop: Path, tmp_path: Path) -> None:
    rows = [row | {"rank": "old", "status": "kept"} for row in read_rows(shop / "rows.csv")]
    files = (
        "--csv",
        write(tmp_path / "rows.csv", rows),
        "--image-base-path",
        shop,
        "--output",
        tmp_path / "out.csv",
    )
    assert (
        audit(
            "--model",
            MODEL,
            *files,
            "--cache",
            shop / "cache",
            "--folds",
            2,
            "--repeats",
            1,
            "--top",
            3,
        ).exit_code
        == 0
    )
    assert [
        (row["input_rank"], row["rank"], row["input_status"], row["status"])
        for row in read_rows(tmp_path / "out.csv")
    ] == [("old", str(rank), "kept", "ok") for rank in (1, 2, 3)]


def test_heads_that_know_nothing_say_so(shop: Path, tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    rows = [
        row | {"label": int(chance.integers(2))}
        for row in read_rows(shop / "rows.csv")[: 2 * PHOTOS]
    ]
    files = (
        "--csv",
        write(tmp_path / "rows.csv", rows),
        "--image-base-path",
        shop,
        "--output",
        tmp_path / "out.csv",
    )
    result = audit(
        "--model", MODEL, *files, "--cache", shop / "cache", "--folds", 2, "--repeats", 1
    )
    assert (result.exit_code, "too little to judge labels by" in result.output) == (0, True)


def test_only_chosen_rows_are_ranked_by_heads_of_all(
    shop: Path, quickly: tuple[Rows, Result], tmp_path: Path
) -> None:
    rows = read_rows(shop / "rows.csv")
    kinds = [
        "match" if row["label"] == "1" else ("hard", "random")[i % 3 == 0]
        for i, row in enumerate(rows)
    ]
    for row, kind in zip(rows, kinds, strict=True):
        row["kind"] = kind
    file = write(tmp_path / "rows.csv", rows)
    more = ("--image-base-path", shop, "--cache", shop / "cache", *QUICK)
    given = tmp_path / "given.csv"
    result = audit("--model", MODEL, "--csv", file, "--output", given, "--only", "label=1", *more)
    assert result.exit_code == 0, result.output
    table = read_rows(given)
    assert {row["label"] for row in table} == {"1"}
    probabilities = {
        row["image_path"] + row["text"]: row["out_of_sample_probability"] for row in quickly[0]
    }
    for row in table:
        if row["status"] == "ok":
            key = row["image_path"] + row["text"]
            assert row["out_of_sample_probability"] == probabilities[key]
    ranks = [int(row["rank"]) for row in table if row["rank"]]
    assert ranks == list(range(1, len(ranks) + 1))
    assert f"{len(ranks)} of 400 rows ranked" in result.stdout
    assert f"of {len(ranks)} labels" in result.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--only", "label"], "--only is 'label'; COLUMN=VALUE is needed"),
        (["--only", "shop=x"], "no column 'shop'"),
        (["--exclude-kind", "hard"], "--kind-column names another"),
        (["--kind-column", "sort"], "--kind-column: "),
        (["--only", "label=2"], "label '2' is neither 0 nor 1"),
    ],
)
def test_a_choice_of_rows_that_is_none_is_refused_before_a_model_is_loaded(
    shop: Path, tmp_path: Path, args: list[str], words: str
) -> None:
    output = tmp_path / "out.csv"
    result = audit("--model", "absent", "--csv", shop / "rows.csv", "--output", output, *args)
    assert (result.exit_code, words in result.stderr) == (2, True), result.output
    assert not output.exists()


@dataclass
class Pairs:
    """Rows as the embedder returns them."""

    labels: np.ndarray[Any, Any]
    image_of: np.ndarray[Any, Any]
    text_of: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.labels)


def test_labels_the_other_way_round_are_said() -> None:
    """Heads that are trained on them don't see it; the model's own score does."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 80)
    pairs = Pairs(labels, np.arange(80), np.arange(80))
    embeddings = np.where(labels == 1, 1.0, -1.0)[:, None].astype(np.float32)
    embedded: Any = SimpleNamespace(pairs=pairs, images=embeddings, texts=embeddings)
    right: Any = SimpleNamespace(own_score=lambda images, texts: images[:, 0])
    wrong: Any = SimpleNamespace(own_score=lambda images, texts: -images[:, 0])
    none: Any = SimpleNamespace(own_score=None)
    assert job._reversed(right, embedded) == ""
    assert job._reversed(none, embedded) == ""
    assert "other way round" in job._reversed(wrong, embedded)


def test_from_python_on_rows_in_memory(
    shop: Path,
    quickly: tuple[Rows, Result],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pandas = pytest.importorskip("pandas")
    quick: dict[str, Any] = {"folds": 2, "repeats": 1, "cache": shop / "cache"}
    audit = mismatch.audit_labels(MODEL, shop / "rows.csv", image_base_path=shop, **quick)
    assert isinstance(audit, mismatch.LabelAudit)
    ours = [(finding.text, finding.reason, finding.status) for finding in audit.findings]
    assert ours == [(row["text"], row["reason"], row["status"]) for row in quickly[0]]
    assert audit.summary() == quickly[1].stdout.splitlines()[: len(audit.summary())]
    assert (audit.unscorable, audit.written, len(audit.ranked())) == (4, 0, 2 * PHOTOS)
    assert json.loads(json.dumps(audit.to_dict()))["findings"][0]["rank"] == 1
    assert re.fullmatch(r"LabelAudit\(csv='.*rows.csv', rows=400, wrong=\d+\.\d %\)", repr(audit))
    assert audit._repr_html_().count("data:image/jpeg;base64,") == 10
    audit.save(tmp_path / "page.html", top=3)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 3
    frame = pandas.read_csv(shop / "rows.csv").head(2 * PHOTOS)
    frame["image"] = [(shop / name).read_bytes() for name in frame.pop("image_path")]
    again = mismatch.audit_labels(MODEL, frame, tmp_path / "top.csv", top=5, **quick)
    assert (again.csv, again.written) == ("DataFrame", 5)
    assert again.findings[0].picture is not None
    assert len(read_rows(tmp_path / "top.csv")) == 5
    predictor: Any = mismatch.load(MODEL, "cpu")
    with pytest.raises(InputError, match=r"`model` is .*; a path is needed"):
        mismatch.audit_labels(predictor, frame)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("parts", [("train",), ("train", "val")], ids="+".join)
def test_real_photos_with_planted_errors(
    fashion: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, parts: Sequence[str]
) -> None:
    if "lit" not in families():
        pytest.skip("the plugin lit is not installed: pip install ./examples/mismatch-lit")
    rows = plant([row for part in parts for row in read_rows(fashion / f"{part}.csv")])
    cache = tmp_path_factory.getbasetemp() / "fashion-embeddings"
    files = (
        "--csv",
        write(tmp_path / "noisy.csv", rows),
        "--image-base-path",
        fashion,
        "--output",
        tmp_path / "ranked.csv",
    )
    result = audit("--model", "lit", *files, "--cache", cache, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert found_in(read_rows(tmp_path / "ranked.csv"), 0.1) >= 0.6
