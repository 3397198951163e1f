"""Explanations: which word is named, what swaps and heat maps say, that a checkpoint and its bundle
agree; and the command.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from mismatch.data.lexicon import Lexicon
from mismatch.errors import ImageError, InputError
from mismatch.reports.explanation_lines import explanation_lines
from mismatch.runtime.explain import explain
from mismatch.runtime.explanation import Explanation
from mismatch.runtime.predictor import Predictor
from mismatch.specs import Calibration, ScoreSpec
from tests.support.commands import run


@pytest.fixture
def predictor(colour_engine: Any) -> Predictor:
    return Predictor(colour_engine())


def named(found: Explanation) -> list[str]:
    return [word.text for word in found.named]


def test_the_wrong_word_is_named(predictor: Predictor, colour_images: Path) -> None:
    found = explain(predictor, colour_images / "red.png", "blue shirt")
    assert named(found) == ["blue"]
    assert [(word.text, word.start, word.end) for word in found.words] == [
        ("blue", 0, 4),
        ("shirt", 5, 10),
    ]
    assert [word.effect for word in found.words] == pytest.approx([2, 0])
    # the logit rises from -3 to -1
    assert found.words[0].score_without == pytest.approx(1 / (1 + np.e))
    assert found.prediction == "mismatch"
    assert found.similarity_score == pytest.approx(1 / (1 + np.e**3))


def test_the_worst_comes_first_and_what_fits_is_not_named(
    predictor: Predictor, colour_images: Path
) -> None:
    found = explain(predictor, colour_images / "red.png", "red blue green shoe")
    assert named(found) == ["blue", "green"]
    assert found.words[0].effect < 0


def test_no_word_of_a_match_is_named(predictor: Predictor, colour_images: Path) -> None:
    assert named(explain(predictor, colour_images / "red.png", "red shirt")) == []


def test_a_threshold_decides_what_is_a_match(colour_engine: Any, colour_images: Path) -> None:
    assert (
        named(
            explain(
                Predictor(colour_engine(), threshold=0.01), colour_images / "red.png", "blue shirt"
            )
        )
        == []
    )


def test_a_single_word_that_does_not_fit_is_named(
    predictor: Predictor, colour_images: Path
) -> None:
    found = explain(predictor, colour_images / "red.png", "blue")
    assert (named(found), found.words[0].effect, found.phrases) == (["blue"], 0, ())


def test_a_phrase_says_what_its_words_do_only_together(
    predictor: Predictor, colour_images: Path
) -> None:
    found = explain(predictor, colour_images / "red.png", "blue green blue")
    phrase = next(phrase for phrase in found.phrases if phrase.text == "green blue")
    assert phrase.effect == pytest.approx(2)  # the first blue still stands
    assert phrase.interaction == pytest.approx(0)
    whole = next(
        phrase
        for phrase in explain(predictor, colour_images / "red.png", "shoe, blue blue").phrases
        if phrase.text == "blue blue"
    )
    # either alone changes nothing
    assert (whole.effect, whole.interaction) == pytest.approx((2, 2))


def test_swaps_say_what_other_words_would_do(predictor: Predictor, colour_images: Path) -> None:
    # another article changes nothing here
    [swap] = explain(predictor, colour_images / "red.png", "blue shirt", lexicon=Lexicon()).swaps
    assert (swap.text, swap.kind, swap.start, swap.end) == ("blue", "colour", 0, 4)
    better, unknown = swap.alternatives[:2]
    assert better[0] == "red"
    assert better[1] == pytest.approx(1 / (1 + np.e**-1))
    # which the model doesn't know: as good as none
    assert unknown[0] == "black"
    assert unknown[1] == pytest.approx(1 / (1 + np.e))


def test_a_lexicon_changes_no_name_and_classes_of_ones_own_are_tried(
    predictor: Predictor, colour_images: Path
) -> None:
    plain = explain(predictor, colour_images / "red.png", "blue shirt")
    more = explain(
        predictor,
        colour_images / "red.png",
        "blue shirt",
        lexicon=Lexicon({"colour": ["blue", "green", "red"]}),
    )
    assert (plain.swaps, plain.named) == ((), more.named)
    assert [word for word, _ in more.swaps[0].alternatives] == ["red"]  # green is no better


def test_the_effect_is_one_of_log_odds_and_a_calibration_scales_it(
    colour_engine: Any, colour_images: Path
) -> None:
    score = ScoreSpec("probability", 0.5, Calibration(0.5, 0.1, 50))
    found = explain(Predictor(colour_engine(score=score)), colour_images / "red.png", "blue shirt")
    assert found.words[0].effect == pytest.approx(1)


def test_of_a_zero_shot_model_it_is_one_of_the_cosine(
    colour_engine: Any, colour_images: Path
) -> None:
    found = explain(
        Predictor(colour_engine(score=ScoreSpec("cosine", 0.25))),
        colour_images / "red.png",
        "blue shirt",
    )
    assert named(found) == ["blue"]
    assert (found.words[0].effect, found.similarity_score) == pytest.approx((2, -3))


def test_one_pass_of_the_image_and_all_texts_together(
    colour_engine: Any, colour_images: Path
) -> None:
    engine = colour_engine(padding="context")
    found = explain(
        Predictor(engine), colour_images / "red.png", "blue green shirt", heat_map=False
    )
    assert engine.image_batches == [1]
    # itself, three words, two phrases
    assert [shape[0] for shape in engine.text_shapes] == [found.texts_encoded] == [6]
    assert (found.images_encoded, found.heat, found.picture) == (1, None, None)


def test_the_heat_map_shows_where_the_colour_is(predictor: Predictor) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, 4:] = (255, 0, 0)
    found = explain(predictor, picture, "red shirt")
    assert found.heat is not None
    assert found.heat.shape == (8, 8)
    assert found.heat[:, 4:].mean() > 0 > found.heat[:, :4].mean()
    assert found.picture is not None
    assert np.array_equal(found.picture, picture)
    assert found.images_encoded > 17


def test_to_dict_is_json_and_has_a_small_heat_map(predictor: Predictor) -> None:
    found = explain(
        predictor, np.full((20, 30, 3), (255, 0, 0), np.uint8), "blue shirt", lexicon=Lexicon()
    )
    data = json.loads(json.dumps(found.to_dict()))
    assert [word["text"] for word in data["named"]] == ["blue"]
    assert data["swaps"][0]["alternatives"][0][0] == "red"
    assert np.shape(data["heat"]) == (8, 8)
    assert np.mean(data["heat"]) == pytest.approx(found.heat.mean(), abs=1e-4)  # type: ignore[union-attr]
    assert "picture" not in data


def test_what_is_beyond_the_context_is_told(predictor: Predictor, colour_images: Path) -> None:
    found = explain(predictor, colour_images / "red.png", "red shirt shoe bag blue")
    assert found.unseen == "blue"
    assert found.words[-1].effect == 0
    assert (predictor.pipeline.totals.long_texts, predictor.pipeline.totals.truncated) == (0, 0)


@pytest.mark.parametrize("long_text", ["chunk", "chunk-mean"])
def test_long_texts_in_pieces(colour_engine: Any, colour_images: Path, long_text: Any) -> None:
    found = explain(
        Predictor(colour_engine(), long_text=long_text),
        colour_images / "red.png",
        "red shirt shoe bag blue",
    )
    assert (named(found)[0], found.unseen) == ("blue", "")


@pytest.mark.parametrize("text", ["", "  \n", "&nbsp;"])
def test_an_empty_text_is_refused(colour_engine: Any, colour_images: Path, text: str) -> None:
    engine = colour_engine()
    engine.text_spec = replace(engine.text_spec, cleaning="clip")
    predictor = Predictor(engine)
    with pytest.raises(InputError, match="the text is empty"):
        explain(predictor, colour_images / "red.png", text)


def test_an_image_that_cannot_be_read_is_refused(predictor: Predictor, colour_images: Path) -> None:
    with pytest.raises(ImageError, match=r"cut\.jpg"):
        explain(predictor, colour_images / "cut.jpg", "red shirt")


def test_a_text_of_signs_alone_has_no_words(predictor: Predictor, colour_images: Path) -> None:
    assert explain(predictor, colour_images / "red.png", "…!").words == ()


def test_a_book_costs_a_bounded_number_of_texts(predictor: Predictor, colour_images: Path) -> None:
    assert (
        explain(
            predictor, colour_images / "red.png", "blue shirt " * 500, heat_map=False
        ).texts_encoded
        <= 257
    )


def test_checkpoint_and_bundle_agree_and_a_second_time_is_the_same(
    tiny_checkpoints: dict[str, Path], tiny_bundles: dict[str, Path], family: str
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    text = "Red leather handbag, gold clasp"
    one, other = (
        mismatch.load(folder[family], "cpu") for folder in (tiny_checkpoints, tiny_bundles)
    )
    torch, onnx = (
        mismatch.explain(predictor, picture, text, lexicon=Lexicon()) for predictor in (one, other)
    )
    assert mismatch.explain(other, picture, text, lexicon=Lexicon()).to_dict() == onnx.to_dict()
    assert [word.effect for word in torch.words] == pytest.approx(
        [word.effect for word in onnx.words], abs=1e-4
    )
    assert named(torch) == named(onnx)
    assert (torch.texts_encoded, torch.images_encoded) == (onnx.texts_encoded, onnx.images_encoded)
    assert torch.similarity_score == pytest.approx(
        one.predict(picture, text).similarity_score, abs=1e-6
    )
    assert torch.heat is not None
    assert np.abs(torch.heat).max() > 0


# --- the command


@pytest.fixture
def model(tiny_bundles: dict[str, Path]) -> Path:
    return tiny_bundles["hf-clip"]


def test_marks_are_brackets_in_a_pipe_and_red_on_a_terminal(
    predictor: Predictor, colour_images: Path
) -> None:
    found = explain(predictor, colour_images / "red.png", "blue shirt", lexicon=Lexicon())
    plain, red = ("\n".join(explanation_lines(found, colour=colour)) for colour in (False, True))
    assert "[blue] shirt" in plain
    assert "\x1b" not in plain
    assert "\x1b[31m\x1b[1mblue\x1b[0m shirt" in red
    assert "word that would have to go, the worst first: blue" in plain
    assert "blue → red raises 0.05 to 0.73" in plain


def test_of_a_match_it_says_that_no_word_is_named(
    predictor: Predictor, colour_images: Path
) -> None:
    assert "no word is named: the model takes the text for fitting" in "\n".join(
        explanation_lines(explain(predictor, colour_images / "red.png", "red shirt"))
    )


def test_one_pair(model: Path, colour_images: Path, tmp_path: Path) -> None:
    pair = ("--model", model, "--image", colour_images / "red.png", "--text", "Blue shirt")
    done = run("explain", *pair, "--threshold", 1, "--output", tmp_path / "out.png")
    assert done.exit_code == 0, done.output
    assert "without the word" in done.stdout
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.width == 792
    run("explain", *pair, "--output", tmp_path / "out.json", "--no-heat-map", "--no-lexicon")
    data = json.loads((tmp_path / "out.json").read_text())
    assert (data["heat"], data["swaps"], data["text"]) == (None, [], "Blue shirt")
    printed = json.loads(run("explain", *pair, "--json", "--output", tmp_path / "folder").stdout)
    assert printed == json.loads((tmp_path / "folder" / "explanation.json").read_text())
    assert (tmp_path / "folder" / "explanation.png").is_file()


def test_the_lowest_rows_of_a_file(
    model: Path, colour_images: Path, write_rows: Any, tmp_path: Path
) -> None:
    pairs = [
        (f"{image}.png", f"{text} shirt")
        for image in ("red", "green", "blue")
        for text in ("red", "green", "blue")
    ]
    rows = write_rows(
        tmp_path / "rows.csv",
        [("image_path", "text"), *pairs, ("cut.jpg", "red shirt"), ("red.png", "")],
    )
    options = ("--model", model, "--csv", rows, "--image-base-path", colour_images, "--no-heat-map")
    done = run("explain", *options, "--worst", 3, "--json", "--output", tmp_path / "out")
    found = json.loads(done.stdout)
    assert "2 of 11 rows could not be scored" in done.stderr
    scores = [
        one.similarity_score or 9
        for one in mismatch.load(model).predict_pairs(
            [{"image_path": colour_images / a, "text": b} for a, b in pairs]
        )
    ]
    assert [one["line"] for one in found] == [
        int(i) + 2 for i in np.argsort(scores, kind="stable")[:3]
    ]
    assert (
        sorted(path.name for path in (tmp_path / "out").iterdir())[0]
        == f"001-line-{found[0]['line']}.png"
    )
    assert json.loads((tmp_path / "out" / "explanations.json").read_text()) == found


def test_of_labelled_rows_the_worst_errors(
    model: Path, colour_images: Path, write_rows: Any, tmp_path: Path
) -> None:
    pairs = [(f"{image}.png", f"{image} shirt") for image in ("red", "green", "blue")]
    rows = write_rows(
        tmp_path / "rows.csv",
        [
            ("image_path", "text", "label"),
            *[(*pair, 1) for pair in pairs],
            ("red.png", "blue shirt", 0),
        ],
    )
    options = (
        "--model",
        model,
        "--csv",
        rows,
        "--image-base-path",
        colour_images,
        "--no-heat-map",
        "--no-lexicon",
    )
    # nothing is a match
    found = json.loads(run("explain", *options, "--threshold", 1, "--json").stdout)
    assert sorted(one["line"] for one in found) == [2, 3, 4]
    assert [one["similarity_score"] for one in found] == sorted(
        one["similarity_score"] for one in found
    )
    # everything is
    assert [
        one["line"]
        for one in json.loads(run("explain", *options, "--threshold", 0, "--json").stdout)
    ] == [5]


def test_where_no_row_is_wrong_there_is_nothing_to_explain(
    model: Path, colour_images: Path, write_rows: Any, tmp_path: Path
) -> None:
    rows = write_rows(
        tmp_path / "rows.csv", [("image_path", "text", "label"), ("red.png", "red shirt", 1)]
    )
    done = run(
        "explain",
        "--model",
        model,
        "--csv",
        rows,
        "--image-base-path",
        colour_images,
        "--threshold",
        0,
        "--json",
    )
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])
    assert "no row is scored against its label; nothing to explain" in done.stderr


def test_several_images_a_row(
    model: Path, colour_images: Path, write_rows: Any, tmp_path: Path
) -> None:
    rows = write_rows(
        tmp_path / "rows.csv", [("image_path", "text"), ("red.png;blue.png", "red shirt")]
    )
    options = (
        "--model",
        model,
        "--csv",
        rows,
        "--image-base-path",
        colour_images,
        "--no-heat-map",
        "--json",
    )
    best, worst = (
        json.loads(run("explain", *options, "--multi-image", kind).stdout)[0]
        for kind in ("best", "all")
    )
    assert {Path(best["image_path"]).name, Path(worst["image_path"]).name} == {
        "red.png",
        "blue.png",
    }
    assert best["similarity_score"] > worst["similarity_score"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--text", "red"], "--image is missing"),
        ([], "give either --image and --text"),
        (["--csv", "rows.csv", "--text", "red"], "give either --image and --text"),
        (["--csv", "rows.csv", "--output", "one.png"], "a .png holds one pair"),
        (["--image", "nope.png", "--text", "red"], "image 'nope.png' not found"),
        (["--image", "red.png", "--text", " "], "the text is empty"),
        (["--image", "lie.jpg", "--text", "red"], "lie.jpg"),
        (["--image", "red.png", "--text", "red", "--lexicon", "none.yaml"], "none.yaml"),
        (
            ["--image", "red.png", "--text", "red", "--no-lexicon", "--lexicon", "none.yaml"],
            "exclude each other",
        ),
        (["--image", "red.png", "--text", "red", "--multi-image", "best"], "go with --csv"),
        (["--csv", "rows.csv", "--slice-value", "x"], "--slice-value goes with --image"),
        (["--csv", "none.csv"], "none.csv"),
        (["--csv", "empty.csv"], "there are no rows under the header"),
        (["--csv", "broken.csv"], "not one of its rows could be scored"),
        (["--csv", "rows.csv", "--output", "rows.csv"], "is the input"),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    model: Path,
    colour_images: Path,
    write_rows: Any,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    said: str,
) -> None:
    write_rows(colour_images / "rows.csv", [("image_path", "text"), ("red.png", "red shirt")])
    write_rows(colour_images / "empty.csv", [("image_path", "text")])
    write_rows(colour_images / "broken.csv", [("image_path", "text"), ("cut.jpg", "red shirt")])
    monkeypatch.chdir(colour_images)
    done = run("explain", "--model", model, *args)
    assert done.exit_code == 2
    assert said in done.stderr
    assert (
        len(
            [
                line
                for line in done.stderr.splitlines()
                if "could not be scored; mismatch validate" not in line
            ]
        )
        == 1
    )


def test_of_a_long_text_a_bounded_part_is_tried_and_what_is_left_out_is_counted(
    predictor: Predictor, colour_images: Path
) -> None:
    image = colour_images / "red.png"
    for text in (
        "red blue " * 900,
        "red shirt, " * 700,
        "word " * 1600,
        "red " * 20_000,
        "a" * 300_000,
        "red" + "!" * 100_000,
    ):
        found = explain(predictor, image, text, heat_map=False, lexicon=Lexicon())
        assert found.texts_encoded <= 257
        assert len(found.words) <= 256
        assert json.loads(json.dumps(found.to_dict()))["left_out"] == found.left_out
    assert (
        explain(predictor, image, "red blue " * 900, heat_map=False, lexicon=Lexicon()).left_out
        > 10_000
    )
    assert (
        explain(
            predictor, image, "red shoe and blue bag", heat_map=False, lexicon=Lexicon()
        ).left_out
        == 0
    )


def test_exchanges_are_left_out_before_phrases_and_these_before_words(
    predictor: Predictor, colour_images: Path
) -> None:
    counts = []
    for words in (3, 40, 80, 100, 300):
        found = explain(
            predictor,
            colour_images / "red.png",
            "blue, green " + "word " * (words - 2),
            heat_map=False,
            lexicon=Lexicon(),
        )
        counts.append(
            (len(found.words), len(found.phrases) > 0, len(found.swaps), found.left_out > 0)
        )
    assert counts == [
        (3, True, 2, False),
        (40, True, 2, False),
        (80, False, 2, True),
        (100, False, 2, True),
        (256, False, 0, True),
    ]


@pytest.mark.parametrize("long_text", ["chunk", "chunk-mean"])
def test_pieces_of_all_variants_are_bounded_together(
    colour_engine: Any, colour_images: Path, long_text: Any
) -> None:
    engine = colour_engine()
    found = explain(
        Predictor(engine, long_text=long_text),
        colour_images / "red.png",
        "red blue " * 900,
        lexicon=Lexicon(),
    )
    assert sum(rows for rows, _ in engine.text_shapes) <= 1024 + 600
    assert found.left_out > 0
    few = explain(
        Predictor(engine, long_text=long_text),
        colour_images / "red.png",
        "red blue bag shoe shirt",
        heat_map=False,
        lexicon=Lexicon(),
    )
    assert few.left_out == 0


class StoppedError(Exception):
    """What a test's check raises."""


@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_what_check_raises_ends_the_work_between_calls_of_the_towers(
    colour_engine: Any, colour_images: Path, after: int
) -> None:
    engine, asked = colour_engine(), [0]

    def check() -> None:
        asked[0] += 1
        if asked[0] == after:
            raise StoppedError

    with pytest.raises(StoppedError):
        explain(
            Predictor(engine),
            colour_images / "red.png",
            "red blue green shirt " * 20,
            lexicon=Lexicon(),
            check=check,
        )
    assert len(engine.text_shapes) + len(engine.image_batches) <= after + 1


def test_a_variant_that_cannot_be_scored_is_left_out(
    colour_engine: Any, colour_images: Path
) -> None:
    predictor = Predictor(colour_engine())
    clean = predictor.pipeline.tokenizer._clean

    def failing(text: str) -> str:
        if text == "blue shirt":
            raise ValueError("a bug")
        return clean(text)

    predictor.pipeline.tokenizer._clean = failing
    found = explain(predictor, colour_images / "red.png", "blue green shirt", heat_map=False)
    assert [word.text for word in found.words] == ["blue", "green", "shirt"]
    assert found.words[1].effect == 0
    with pytest.raises(InputError, match="tokenized"):
        explain(predictor, colour_images / "red.png", "blue shirt", heat_map=False)
