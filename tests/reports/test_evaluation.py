"""report.html: what it says, that it escapes what comes from files, and, in Chromium, that it works
from disk, without network, on any screen.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mismatch.evaluation.decisions import Decisions
from mismatch.reports.evaluation import _slider, training_stats
from mismatch.reports.plots import VARIABLES
from mismatch.runtime.predictor import Predictor
from mismatch.specs import ScoreSpec, Threshold
from tests.support import commands

pytest.importorskip("matplotlib")

EVIL = (
    'red shirt</script><script>alert(1)</script><img src="http://evil.example/x.png"'
    ' onerror="alert(2)">'
    " '{{ 7 * 7 }}{% raw %} \u202egnp.exe"
)
STATS = {
    "train_losses": [0.7, 0.5],
    "val_losses": [0.6, 0.55],
    "val_accuracies": [0.6, 0.7],
    "best_epoch": 2,
}


TEMPLATES = Path(__file__).resolve().parents[2] / "mismatch" / "reports" / "templates"
STYLE, SCRIPT = (
    (TEMPLATES / f"evaluation.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")
)

Evaluate = Callable[..., Path]


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory: pytest.TempPathFactory, colour_engine: Any) -> Iterator[Evaluate]:
    """Runs the command on rows with markup in texts and columns, an image that is gone, a very long
    text; returns the page.
    """
    folder = tmp_path_factory.mktemp("evaluation")
    colours = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
    for name, colour in colours.items():
        Image.new("RGB", (20, 12), colour).save(folder / f"{name}.png")
    rows = [(f"{one}.png", f"{one} shirt", 1, "match", "a<b") for one in colours] * 8
    rows += [
        (f"{one}.png", f"{other} shirt", 0, "<i>random</i>", "c")
        for one in colours
        for other in colours
        if other != one
    ] * 4
    rows += [
        ("red.png", EVIL, 0, "same colour", "c"),
        ("green.png", "red bag", 1, "match", "c"),
        ("gone.png", "red", 1, "match", "c"),
    ]
    rows += [
        (
            "red.png",
            "a very long title " * 30,
            1,
            "match",
            "averyveryveryveryverylongshopnamewithoutanyspaceinit",
        )
    ]
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image_path", "text", "label", "kind", "shop"), *rows])
    for name, stats in {"model": json.dumps(STATS), "broken": "{"}.items():
        (folder / name).mkdir()
        (folder / name / "training_stats.json").write_text(stats)
    score = ScoreSpec("probability", 0.5, threshold=Threshold(0.4, "accuracy", 99, "2026-03-04"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "mismatch.jobs.options.load",
            lambda path, provider, threads, **options: Predictor(
                colour_engine(score=score), **options
            ),
        )

        def run(model: str, *options: str) -> Path:
            report = folder / f"report-{model}"
            with patch.context() as inside:
                inside.chdir(folder)
                result = commands.run(
                    "evaluate", "--model", model, "--csv", "rows.csv", "--report", report, *options
                )
            assert result.exit_code == 0, result.output
            return report / "report.html"

        yield run


@pytest.fixture(scope="module")
def page(evaluate: Evaluate) -> Path:
    """A report with everything in it."""
    return evaluate("model", "--slice", "shop", "--stress", "--against", "other<model>")


def test_it_has_all_its_parts_and_no_address(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for part in (
        "figures",
        "curves",
        "threshold",
        "parts",
        "against",
        "stress",
        "training",
        "errors",
        "provenance",
    ):
        assert f'<section id="{part}">' in text
        assert f'href="#{part}"' in text
    assert text.count("<svg ") == 7
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert re.findall(r"https?:[^\s<&]*", re.sub(r"&lt;.*?&gt;", "", text)) == []
    identities = re.findall(r'\bid="([^"]*)"', text)
    assert len(identities) == len(set(identities))


def test_what_comes_from_files_is_escaped(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<i>random" not in text
    assert "&lt;i&gt;random" in text
    assert "a&lt;b" in text
    assert "other&lt;model&gt;" in text
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in text  # the missed mismatch of EVIL
    assert "&#39;{{ 7 * 7 }}{% raw %} \u202egnp.exe</p>" in text
    assert text.count("</script>") == 2


def test_the_figures_are_those_of_the_report(page: Path) -> None:
    text, report = (
        page.read_text(encoding="utf-8"),
        json.loads((page.parent / "report.json").read_text()),
    )
    assert f"<b>{report['metrics']['accuracy']:.4f}</b>" in text
    (tn, _), (fn, _) = report["metrics"]["confusion_matrix"]
    data = json.loads(re.search(r'id="sweep">(.*?)</script>', text)[1])  # type: ignore[index]
    assert data["threshold"][data["chosen"]] == 0.4
    assert (data["tn"][data["chosen"]], data["fn"][data["chosen"]]) == (tn, fn)
    assert text.count('class="thumb" src="data:image/jpeg;base64,') == 3


def test_without_the_optional_parts(evaluate: Evaluate) -> None:
    text = evaluate("broken").read_text(encoding="utf-8")
    for part in ("against", "stress", "training"):
        assert f'id="{part}"' not in text
    assert 'id="parts"' in text  # the column kind is found by itself


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"train_losses": []}'])
def test_training_stats_that_are_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "training_stats.json").write_text(content)
    assert training_stats(str(tmp_path)) is None
    assert training_stats("hf-clip:tiny") is None


def test_style_and_script_name_no_address() -> None:
    for text in (STYLE, SCRIPT):
        assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(|import\(", text)
        assert "</" not in text


def test_light_dark_and_print_define_the_same_colours() -> None:
    blocks = [
        set(re.findall(r"(--[a-z]+):", part))
        for part in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    ]
    assert len(blocks) == 3
    assert blocks[0] == blocks[1] == blocks[2] >= set(VARIABLES.values())


def test_the_script_fills_every_live_figure(page: Path) -> None:
    live = re.findall(r' id="(live-[a-z0-9-]+)"', page.read_text(encoding="utf-8"))
    assert len(live) == 9
    assert set(live) == set(re.findall(r'put\("(live-[a-z0-9-]+)"', SCRIPT))


@pytest.mark.parametrize(("scores", "span"), [([0.2, 0.7, 0.9], (0, 1)), ([-0.2, 0.1, 0.3], None)])
def test_the_slider_begins_at_the_threshold_in_use(
    scores: list[float], span: tuple[float, float] | None
) -> None:
    data = _slider(Decisions([0, 1, 1], scores, [0.25] * 3), 0.25)
    assert data["threshold"][data["chosen"]] == 0.25
    assert data["span"] == (span or (data["threshold"][0], data["threshold"][-1]))


@pytest.fixture
def opened(chromium: Any, page: Path) -> Iterator[Any]:
    """Opens the report at a width; at the end no request has gone out and nothing was said on the
    console.
    """
    contexts, trouble = [], []

    def open_at(width: int, scheme: str = "light") -> Any:
        contexts.append(
            chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        )
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: trouble.append(message.text))
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on(
            "request",
            lambda request: (
                trouble.append(request.url)
                if request.url.split(":")[0] not in ("data", "file")
                else None
            ),
        )
        tab.goto(page.as_uri())
        return tab

    yield open_at
    for context in contexts:
        context.close()
    assert trouble == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_nothing_overflows(opened: Any, width: int, scheme: str) -> None:
    tab = opened(width, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate(
        "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    )
    plots = tab.evaluate(
        "[...document.querySelectorAll('svg')].map(plot => plot.getBoundingClientRect().width)"
    )
    assert len(plots) == 7
    assert min(plots) > 0.75 * min(width, 700) * (1 if width == 375 else 0.6)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 375])
def test_in_a_browser_the_slider_changes_the_figures(opened: Any, page: Path, width: int) -> None:
    tab = opened(width)

    def figures() -> list[str]:
        return [
            tab.inner_text(f"#{name}")
            for name in (
                "at",
                "live-mismatch-precision",
                "live-mismatch-recall",
                "live-accuracy",
                "live-alarm",
            )
        ]

    report = json.loads((page.parent / "report.json").read_text())["metrics"]
    at_first = figures()
    assert at_first[0] == "0.4000"
    assert at_first[1:4] == [
        f"{100 * report[name]:.1f} %"
        for name in ("mismatch_precision", "mismatch_recall", "accuracy")
    ]
    place = tab.evaluate("document.getElementById('marker').getBoundingClientRect().x")
    tab.fill("#slider", tab.get_attribute("#slider", "max"))
    # all are called mismatches
    assert figures()[2:] == ["100.0 %", f"{100 * 25 / 51:.1f} %", "100.0 %"]
    assert tab.evaluate("document.getElementById('marker').getBoundingClientRect().x") > place
    tab.focus("#slider")
    tab.keyboard.press("Home")
    assert figures()[1:] == ["–", "0.0 %", f"{100 * 26 / 51:.1f} %", "0.0 %"]
    tab.click("#reset")
    assert figures() == at_first


@pytest.mark.browser
def test_in_a_browser_dark_and_print_have_their_own_colours(opened: Any) -> None:
    brightness = (
        "(name => getComputedStyle(document.querySelector(name))%s.match(/\\d+/g).slice(0,"
        " 3).reduce((a, b) => a + Number(b), 0) / 3)"
    )
    shades = {}
    for scheme in ("light", "dark"):
        tab = opened(1280, scheme)
        ground, ink = (
            tab.evaluate(f"{brightness % part}('body')") for part in (".backgroundColor", ".color")
        )
        word = tab.evaluate(f"{brightness % '.fill'}('#roc-legend_1 text')")
        shades[scheme] = (ground, ink, word)
    assert min(shades["light"][0], shades["dark"][1], shades["dark"][2]) > 200
    assert max(shades["dark"][0], shades["light"][1], shades["light"][2]) < 60
    tab.emulate_media(media="print")
    assert tab.evaluate(f"{brightness % '.backgroundColor'}('body')") == 255
    assert not tab.is_visible("#slider")
