"""A model's card says what the files next to it say, truly, and gives nobody's folders away."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mismatch.io.atomic import sealed
from mismatch.reports.model_card import (
    ChosenOn,
    update_card,
    write_bundle_card,
    write_checkpoint_card,
)
from mismatch.runtime.score_file import write_score
from mismatch.specs import Calibration, HeadSpec, ReviewBand, ScoreSpec, SliceThresholds, Threshold

SCORE = ScoreSpec(
    "probability",
    0.5,
    Calibration(0.7, 0.1, 120),
    Threshold(0.4321, "accuracy", 120, "2026-01-02T03:04:05+00:00"),
)
BACKBONE = {
    "family": "hf-clip",
    "model_id": "openai/clip-vit-base-patch32",
    "distribution": "mismatch-clip",
    "version": "0.1.0",
    "api_version": 1,
}
TRAIN = {
    "train_csv": "/home/ann/secret/train_rows.csv",
    "val_csv": "s3://bucket-of-ann/val.csv?key=secret",
    "tune": "head",
    "epochs": 12,
    "seed": 7,
}
FIGURES = {
    "rows": 120,
    "threshold": 0.4321,
    "accuracy": 0.9,
    "auroc": 0.95,
    "mismatch_recall": 0.8,
    "ece": None,
}
STATS = {
    "epochs": 3,
    "best_epoch": 2,
    "train_rows": 11250,
    "val_rows": 1406,
    "val_losses": [0.7, 0.5, 0.6],
    "val_accuracies": [0.5, 0.9, 0.81],
    "val_precision": [0.5, 0.9, 0.82],
    "val_recall": [0.5, 0.9, 0.83],
    "val_f1": [0.5, 0.9, 0.84],
    "val_auroc": [0.5, 0.95, 0.85],
    "best_validation": FIGURES,
}
CHOSEN = ChosenOn(
    500,
    0.9,
    dict.fromkeys(
        (
            "accuracy",
            "mismatch_precision",
            "mismatch_recall",
            "mismatch_f1",
            "match_precision",
            "match_recall",
            "match_f1",
            "alarm_rate",
        ),
        (0.9123, (0.8765, 0.9456)),
    ),
)


def checkpoint(
    folder: Path,
    *,
    stats: Any = STATS,
    train: Any = TRAIN,
    score: ScoreSpec = SCORE,
    **backbone: str,
) -> Path:
    """A checkpoint without weights."""
    folder.mkdir()
    record = {
        "format_version": 1,
        "mismatch_version": "0.1.0",
        "backbone": BACKBONE | backbone,
        "head": HeadSpec("adapter", 512, 512).to_dict(),
        "score": score.to_dict(),
        "train": train,
        "files": {},
    }
    (folder / "mismatch.json").write_text(json.dumps(sealed(record)))
    (folder / "training_stats.json").write_text(json.dumps(stats))
    (folder / "config.json").write_text("{}")
    return folder


def bundle(
    folder: Path, *, score: ScoreSpec = SCORE, precision: str = "fp32", **parity: Any
) -> Path:
    """A bundle without graphs."""
    folder.mkdir()
    manifest = {
        "format_version": 1,
        "mismatch_version": "0.1.0",
        "backbone": BACKBONE,
        "head": HeadSpec("adapter", 512, 512).to_dict(),
        "score": score.to_dict(),
        "precision": precision,
        "opset": 20,
        "files": {},
    }
    facts = {
        "source": "/home/ann/secret/test.csv",
        "pairs": 1406,
        "max_score_difference": 2.2e-7,
        "flipped_decisions": 0,
    }
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))
    (folder / "parity.json").write_text(json.dumps(facts | parity))
    return folder


def card(folder: Path) -> str:
    return (folder / "README.md").read_text()


def front_matter(text: str) -> Any:
    _, matter, _ = text.split("---\n", 2)
    return yaml.safe_load(matter)


def test_the_card_of_the_best_model(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "best_model")
    write_checkpoint_card(folder)
    text = card(folder)
    assert front_matter(text) == {
        "library_name": "mismatch",
        "license": "unknown",
        "tags": ["image-text-matching", "clip", "mismatch"],
        "base_model": "openai/clip-vit-base-patch32",
    }
    for line in (
        "- Family and model: `hf-clip`, `openai/clip-vit-base-patch32`",
        "- Trained: `head`",
        "- Training rows: `train_rows.csv`, 11,250",
        "- Validation rows: `val.csv`, 1,406",
        "- Epoch: 2 of a run of 12 at most, seed 7",
        "| Accuracy | 0.9000 |",
        "| AUROC | 0.9500 |",
        "| Mismatch: recall | 0.8000 |",
        "- Calibration: platt, fitted to 120 labelled rows",
        "- Threshold: 0.4321, chosen for best accuracy on 120 rows on 2026-01-02",
        'model = mismatch.load("this/folder")',
    ):
        assert line in text.splitlines(), line
    assert "the threshold (0.4321) that training stored" in text
    assert "nan" not in text
    assert "secret" not in text
    assert "ann" not in re.findall(r"\w+", text)
    assert max(map(len, re.findall(r"(?m)^(?![-|<]).*$", text))) < 120


def test_it_is_the_same_each_time_and_has_no_time_of_its_own(tmp_path: Path) -> None:
    one, other = (checkpoint(tmp_path / name) for name in ("one", "two"))
    for folder in (one, other):
        write_checkpoint_card(folder, 2)
    assert card(one) == card(other)
    assert set(re.findall(r"\d{4}-\d\d-\d\d", card(one))) == {"2026-01-02"}


def test_an_epoch_that_is_not_the_best_has_its_own_figures(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "final_model")
    write_checkpoint_card(folder, 3)
    text = card(folder)
    assert "- Epoch: 3 of a run of 12 at most" in text
    assert "by the plain probability and 0.5. This epoch is not the run's best one" in text
    assert "| Accuracy | 0.8100 |" in text
    assert "0.9500" not in text


@pytest.mark.parametrize(
    ("name", "epoch"),
    [("best_model", 2), ("final_model", 3), ("checkpoint_epoch_3", 3), ("renamed", None)],
)
def test_the_folder_tells_which_epoch_it_is_of(
    tmp_path: Path, name: str, epoch: int | None
) -> None:
    folder = checkpoint(tmp_path / name)
    write_checkpoint_card(folder)
    if epoch is None:
        assert "- Epochs of the run: 3; which of them this is, is not recorded" in card(folder)
        assert "There are none: which epoch of the run this is, is not recorded." in card(folder)
    else:
        assert f"- Epoch: {epoch} of" in card(folder)


def test_a_renamed_folder_is_known_where_the_last_epoch_is_the_best(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "renamed", stats=STATS | {"best_epoch": 3})
    write_checkpoint_card(folder)
    assert "- Epoch: 3 of" in card(folder)


def test_without_validation_rows_it_says_so(tmp_path: Path) -> None:
    lists: dict[str, list[float]] = {
        name: [] for name, value in STATS.items() if isinstance(value, list)
    }
    stats = STATS | lists | {"val_rows": 0, "best_epoch": 3, "best_validation": None}
    score = ScoreSpec("probability", 0.5)
    folder = checkpoint(tmp_path / "m", stats=stats, train=TRAIN | {"val_csv": None}, score=score)
    write_checkpoint_card(folder)
    text = card(folder)
    assert "- Validation rows: none were held out" in text
    assert "There are none: no rows were held out from training." in text
    assert "- Calibration: none; the score is the plain sigmoid" in text
    assert "- Threshold: 0.5000, the default; none was chosen" in text


def test_rows_held_out_of_the_training_file_are_said_to_be(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "best_model", train=TRAIN | {"val_csv": None})
    write_checkpoint_card(folder)
    assert "- Validation rows: 1,406 of that file, of images that training did not see" in card(
        folder
    )


@pytest.mark.parametrize(
    "stats",
    [{}, [], {"epochs": "many"}, {"epochs": 3, "best_epoch": 2}, STATS | {"train_rows": None}],
)
def test_statistics_that_say_nothing_are_left_out(tmp_path: Path, stats: Any) -> None:
    folder = checkpoint(tmp_path / "best_model", stats=stats)
    write_checkpoint_card(folder)
    assert "nothing is recorded of them" in card(folder)
    assert "no run of training is recorded with this model" in card(folder)


@pytest.mark.parametrize("best", [None, [], {"threshold": "x"}, {"accuracy": 1.0}])
def test_figures_of_another_form_are_left_out(tmp_path: Path, best: Any) -> None:
    folder = checkpoint(tmp_path / "best_model", stats=STATS | {"best_validation": best})
    write_checkpoint_card(folder)
    assert "| Accuracy |" not in card(folder)


def test_a_base_model_is_named_only_where_the_hub_has_it_by_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models/clip").mkdir(parents=True)
    for name, number in (("models/clip", 1), ("/home/ann/secret/clip", 2), ("tiny", 3)):
        folder = checkpoint(tmp_path / f"m{number}", model_id=name)
        write_checkpoint_card(folder)
        assert "base_model" not in front_matter(card(folder))
        assert f"`{name.rpartition('/')[2]}`" in card(folder)
        assert "secret" not in card(folder)
    other = checkpoint(tmp_path / "m4", family="openclip", model_id="ViT-B-32/laion2b_s34b_b79k")
    (other / "config.json").unlink()  # another format, whose names are no addresses
    write_checkpoint_card(other)
    assert "base_model" not in front_matter(card(other))
    assert "`ViT-B-32/laion2b_s34b_b79k`" in card(other)


def test_a_folder_stays_a_folder_where_the_bundle_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models/clip").mkdir(parents=True)
    source = checkpoint(tmp_path / "best_model", model_id="models/clip")
    write_checkpoint_card(source)
    Path("models/clip").rmdir()
    folder = bundle(tmp_path / "bundle")
    write_bundle_card(folder, source)
    assert "base_model" not in front_matter(card(folder))


HOSTILE = "a`b|c\n# Head\n<script>alert(1)</script><!-- mismatch: end of score -->\n.csv"


def test_names_of_users_are_text(tmp_path: Path) -> None:
    slices = SliceThresholds(HOSTILE, {"x": 0.4}, {"x": 40})
    threshold = Threshold(0.5, HOSTILE, 10, HOSTILE)
    score = replace(SCORE, slices=slices, threshold=threshold)
    train = TRAIN | {"train_csv": HOSTILE, "val_csv": HOSTILE, "tune": HOSTILE}
    folder = checkpoint(
        tmp_path / "best_model", train=train, score=score, model_id=HOSTILE, version=HOSTILE
    )
    write_checkpoint_card(folder)
    text = card(folder)
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# Does this text describe this image?",
        "## Load it",
        "## Backbone",
        "## Data",
        "## Figures",
        "## Score and threshold",
        "## Limits",
    ]
    for line in text.splitlines():
        assert line.startswith("<!-- mismatch: ") or "<" not in re.sub(r"(`+).*?\1", "", line)
    assert front_matter(text)["library_name"] == "mismatch"
    assert update_card(folder)
    assert card(folder) == text


def test_no_html_of_users_is_rendered(tmp_path: Path) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    train = TRAIN | {"train_csv": HOSTILE, "val_csv": "`" + HOSTILE, "tune": HOSTILE}
    folder = checkpoint(tmp_path / "best_model", train=train)
    write_checkpoint_card(folder)
    page = markdown_it.MarkdownIt("commonmark").render(card(folder).split("---\n", 2)[2])
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_card_of_a_bundle(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "best_model")
    folder = bundle(tmp_path / "bundle")
    write_bundle_card(folder, source)
    text = card(folder)
    assert front_matter(text)["tags"][-1] == "onnx"
    assert front_matter(text)["base_model"] == "openai/clip-vit-base-patch32"
    for line in (
        "- Precision: `fp32`; ONNX opset 20",
        "- Training rows: `train_rows.csv`, 11,250",
        "| Accuracy | 0.9000 |",
        "- Pairs: 1,406, of `test.csv`",
        "- Largest difference of a score: 2.2e-07",
        "- Decisions that differ: 0",
        "`manifest.json` is what counts. Where it differs from this page, it is newer.",
    ):
        assert line in text.splitlines(), line
    assert "secret" not in text
    assert json.loads((folder / "manifest.json").read_text())["files"] == {}


def test_a_lower_precision_says_what_it_costs(tmp_path: Path) -> None:
    judged = {"flipped": 5, "auroc": 0.97, "auroc_after": 0.968}
    folder = bundle(tmp_path / "bundle", precision="int8", int8=judged)
    write_bundle_card(folder, None)
    assert "- Decisions that differ: 5" in card(folder)
    assert "- AUROC: 0.9700 before, 0.9680 in `int8`" in card(folder)
    assert "nothing is recorded of them" in card(folder)


def test_a_bundle_of_the_same_score_has_the_figures_of_its_checkpoint(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "best_model")
    write_checkpoint_card(source, chosen_on=CHOSEN)
    row = "| accuracy | 0.9123 | 0.8765..0.9456 |"
    cases = [
        ("same", {}, True),
        ("refitted", {"score": replace(SCORE, threshold=None)}, False),
        ("int8", {"precision": "int8"}, False),
    ]
    for name, options, has_figures in cases:
        folder = bundle(tmp_path / name, **options)  # type: ignore[arg-type]
        write_bundle_card(folder, source)
        assert (row in card(folder)) is has_figures, name
        assert "`mismatch.json`" not in card(folder)
    (source / "README.md").write_text("mine")
    folder = bundle(tmp_path / "without")
    write_bundle_card(folder, source)
    assert row not in card(folder)


def test_a_new_score_is_shown_with_its_figures(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "best_model")
    write_checkpoint_card(folder)
    before = card(folder)
    threshold = Threshold(0.6, "mismatch precision>=0.95", 500, "2026-05-06T00:00:00+00:00")
    band = ReviewBand(0.3, 0.7)
    write_score(folder, replace(SCORE.with_threshold(threshold), review=band))
    assert update_card(folder, CHOSEN)
    text = card(folder)
    assert "- Threshold: 0.6000, chosen for precision of mismatches at least 0.95" in text
    assert "- Review band: 0.3000 to 0.7000; a person should look at these scores" in text
    assert "On the 500 labelled rows that it was chosen on, and where 90 % of new rows" in text
    assert "| accuracy | 0.9123 | 0.8765..0.9456 |" in text
    assert text.partition("## Score and threshold")[0] == before.partition("## Score and")[0]
    (folder / "README.md").write_text("mine")
    assert not update_card(folder, CHOSEN)
    assert card(folder) == "mine"


def test_a_page_of_somebodys_own_stays(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "best_model")
    (folder / "README.md").write_text("mine")
    write_checkpoint_card(folder)
    assert card(folder) == "mine"


def test_a_score_that_is_a_cosine(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m", score=ScoreSpec("cosine", 0.25), stats={})
    write_checkpoint_card(folder)
    assert "- Score: the cosine of the two embeddings, -1 to 1" in card(folder)
    assert "- Threshold: 0.2500, the default; none was chosen" in card(folder)
