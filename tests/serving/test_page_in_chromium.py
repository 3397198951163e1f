"""The page of the service in the operating system's Chromium, against a real server: without one
request to another host, and without a word on the console.
"""

from __future__ import annotations

import csv
import io
import json
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from mismatch.runtime.predictor import Predictor
from mismatch.serving.app import create_app
from mismatch.serving.configuration import Settings
from mismatch.specs import ReviewBand, ScoreSpec, SliceThresholds, Threshold
from tests.support.serving import image

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDTHS = (1280, 375)
TOKEN = "a-token-of-this-service"
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
SETTLED = "#heat-tools:not([hidden])"  # the last of an answer
REPORT = (
    "document.addEventListener('securitypolicyviolation', event => console.error('policy',"
    " event.violatedDirective, event.blockedURI))"
)


def file(name: str, content: bytes, kind: str = "image/png") -> Any:
    return {"name": name, "mimeType": kind, "buffer": content}


def table(*rows: tuple[str, ...], header: tuple[str, ...] = ("image_path", "text")) -> Any:
    held = io.StringIO()
    csv.writer(held).writerows([header, *rows])
    return file("pairs.csv", held.getvalue().encode(), "text/csv")


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Any:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file("photos.zip", held.getvalue(), "application/zip")


PHOTOS = {f"photos/{name}.png": image(colour) for name, colour in COLOURS.items()}


class Server:
    """A service on a port of its own."""

    def __init__(self, models: dict[str, Predictor], **settings: Any) -> None:
        app = create_app(
            Settings("m", models={name: "m" for name in models if name != "default"}, **settings),
            models,
        )
        self._server = uvicorn.Server(
            uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="none")
        )
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> str:
        """Its address."""
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}/"

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def address(colour_engine: Any) -> Iterator[str]:
    """Of a service whose model has a threshold of 0.4."""
    score = ScoreSpec("probability", 0.5, threshold=Threshold(0.4, "accuracy", 99, "2026-03-04"))
    with Server({"default": Predictor(colour_engine(score=score))}) as found:
        yield found


Open = Callable[..., Any]


@pytest.fixture
def opened(chromium: Any, address: str) -> Iterator[Open]:
    """Opens the page; at the end no request has gone to another host, no script has failed and
    nothing was said on the console but what was `expected`.
    """
    contexts, trouble, expected = [], [], []

    def open_at(
        width: int = 1280, scheme: str = "light", at: str = address, may_say: str = ""
    ) -> Any:
        contexts.append(
            chromium.new_context(
                viewport={"width": width, "height": 800},
                color_scheme=scheme,
                reduced_motion="reduce",
                accept_downloads=True,
            )
        )
        contexts[-1].add_init_script(REPORT)
        expected.append(may_say)
        tab = contexts[-1].new_page()
        tab.set_default_timeout(20_000)
        tab.on(
            "console",
            lambda message: (
                None if may_say and may_say in message.text else trouble.append(message.text)
            ),
        )
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((at, "blob:", "data:image/png;base64,"))
                else trouble.append(request.url)
            ),
        )
        tab.goto(at)
        return tab

    yield open_at
    for context in contexts:
        context.close()
    assert trouble == []


def check(tab: Any, image: Any, text: str, until: str = SETTLED) -> None:
    tab.wait_for_selector("#model-facts:not(:empty)")
    tab.set_input_files("#image", image)
    tab.fill("#text", text)
    tab.click("#check")
    tab.wait_for_selector(until)


def batch(tab: Any, *files: Any) -> None:
    """The other tab with these files, its rows checked."""
    tab.wait_for_selector("#model-facts:not(:empty)")
    tab.click("#batch-tab")
    tab.set_input_files("#batch-files", list(files))
    tab.click("#start:enabled")
    finished(tab)


def finished(tab: Any, word: str = "Done") -> str:
    tab.locator("#batch-status", has_text=f"{word}:").wait_for(state="attached")
    return str(tab.inner_text("#batch-status"))


def lines(tab: Any) -> list[list[str]]:
    """The table as it is shown: row, text and path and reason, score, decision."""
    rows = tab.evaluate(
        "[...document.querySelectorAll('#table tbody tr')].map(row => [...row.cells].map(cell =>"
        " cell.innerText))"
    )
    return [[row[0], *row[2].split("\n"), *row[3:5]] for row in rows]


def downloaded(tab: Any) -> list[list[str]]:
    with tab.expect_download() as found:
        tab.click("#download")
    assert found.value.suggested_filename == "pairs-checked.csv"
    return list(csv.reader(io.StringIO(Path(found.value.path()).read_bytes().decode(), newline="")))


# --- one pair


def test_a_mismatch_has_its_score_its_words_marked_and_other_words(opened: Open) -> None:
    tab = opened()
    check(tab, file("blue.png", image("blue")), "🙂 red shirt")
    assert tab.inner_text("#verdict").strip() == "Mismatch"
    assert tab.inner_text(".score b") == "0.047"
    assert (
        tab.get_attribute(".scale", "aria-label") == "0.047 on a scale from 0 to 1; threshold 0.400"
    )
    assert tab.inner_text("mark").startswith("red")
    assert tab.text_content("blockquote") == "🙂 red (doesn’t fit) shirt"
    assert tab.get_attribute("mark", "title") == "Without it the score is 0.269"
    said = tab.inner_text(".named li")
    assert said.startswith("red: without it the score is 0.269 instead of 0.047")
    assert "red → blue 0.731" in said
    assert tab.inner_text("#pair-status").endswith("threshold 0.400. Words that don’t fit: red.")
    places = tab.evaluate(
        "['.track', '.tick', '.here'].map(name =>"
        " document.querySelector(name).getBoundingClientRect()).map(box => [box.left, box.width])"
    )
    (left, width), tick, here = places
    assert abs(left + 0.4 * width - (tick[0] + tick[1] / 2)) < 2
    assert here[0] < tick[0]
    tab.click("#result summary")
    assert tab.locator("#result tbody tr").count() == 3  # of each word, 🙂 included


def test_the_heat_map_lies_over_what_the_model_sees_and_can_be_switched_off(opened: Open) -> None:
    tab = opened()
    halves = Image.new("RGB", (16, 16), "blue")
    halves.paste((255, 0, 0), (0, 0, 16, 8))
    held = io.BytesIO()
    halves.save(held, "PNG")
    check(tab, file("halves.png", held.getvalue()), "red shirt")
    assert tab.is_visible("#heat")
    assert not tab.is_visible("#preview")
    assert tab.get_attribute("#heat", "aria-label").startswith(
        "Heat map: most evidence for the text at the top"
    )
    column = tab.evaluate(
        "[...document.getElementById('heat').getContext('2d').getImageData(224, 0, 1, 448).data]"
    )
    top, bottom = column[4 * 45 : 4 * 46], column[4 * 403 : 4 * 404]
    assert top[2] > top[0] + 40, "blue: for the text"
    assert bottom[0] > bottom[2] + 40, "vermilion: against it"
    tab.focus("#heat-shown")
    tab.keyboard.press("Space")
    assert tab.is_visible("#preview")
    assert not tab.is_visible("#heat")
    assert not tab.is_visible("#legend")
    tab.click("#heat-shown")
    assert tab.is_visible("#heat")


def test_a_match_names_no_word(opened: Open) -> None:
    tab = opened()
    check(tab, file("blue.png", image("blue")), "blue shirt")
    assert tab.inner_text("#verdict").strip() == "Match"
    assert tab.locator("mark").count() == 0
    assert "No word stands out" in tab.inner_text("#result")


def test_the_review_band_is_shaded_and_named(opened: Open, colour_engine: Any) -> None:
    score = ScoreSpec("probability", 0.5, review=ReviewBand(0.6, 0.8))
    with Server({"default": Predictor(colour_engine(score=score))}) as at:
        tab = opened(at=at)
        check(tab, file("blue.png", image("blue")), "blue shirt")
        assert tab.inner_text("#verdict").strip() == "Review"
        assert tab.get_attribute(".scale", "aria-label").endswith(
            "to be reviewed from 0.600 to 0.800"
        )
        track, band = tab.evaluate(
            "['.track', '.band'].map(name =>"
            " document.querySelector(name).getBoundingClientRect().width)"
        )
        assert abs(band / track - 0.2) < 0.01
        assert "review 0.600 to 0.800" in tab.inner_text("#model-facts")


def test_a_cosine_has_its_own_scale_and_slices_their_own_thresholds(
    opened: Open, colour_engine: Any
) -> None:
    slices = ScoreSpec(
        "probability", 0.5, slices=SliceThresholds("shop", {"strict": 0.9}, {"strict": 40})
    )
    models = {
        "default": Predictor(colour_engine(score=ScoreSpec("cosine", 0.25))),
        "by-shop": Predictor(colour_engine(score=slices)),
    }
    with Server(models) as at:
        tab = opened(at=at)
        check(tab, file("blue.png", image("blue")), "blue shirt")
        assert (
            tab.get_attribute(".scale", "aria-label")
            == "1.000 on a scale from -1 to 1; threshold 0.250"
        )
        assert not tab.is_visible("#slice")
        tab.select_option("#model", "by-shop")
        tab.wait_for_selector("#slice")
        assert not tab.is_visible("#result"), "an answer of another model"
        tab.fill("#slice", "strict")
        tab.click("#check")
        tab.wait_for_selector(SETTLED)
        assert (
            tab.get_attribute(".scale", "aria-label")
            == "0.731 on a scale from 0 to 1; threshold 0.900"
        )
        assert tab.inner_text("#verdict").strip() == "Mismatch"


def test_the_end_of_a_long_text_is_shown_as_unseen(opened: Open) -> None:
    tab = opened()
    check(tab, file("blue.png", image("blue")), "red shirt shoe bag grey green")
    assert tab.inner_text(".unseen").endswith("grey green")
    assert "It has not seen: “grey green”" in tab.inner_text("#result")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.txt", b"hello", "notes.txt: the file is no image of a known format"),
        ("empty.png", b"", "empty.png: the image is empty (0 bytes)"),
    ],
)
def test_a_wrong_file_is_refused_at_once(
    opened: Open, name: str, content: bytes, words: str
) -> None:
    tab = opened()
    tab.set_input_files("#image", file(name, content))
    tab.wait_for_selector("#pair-problem")
    assert tab.inner_text("#pair-problem").startswith(words)
    assert not tab.is_visible("#figure")
    tab.set_input_files("#image", file("red.png", image("red")))
    tab.wait_for_selector("#preview")
    assert not tab.is_visible("#pair-problem")


def test_what_the_service_refuses_is_said_in_its_words(opened: Open) -> None:
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
        noise, "JPEG"
    )
    tab = opened(may_say="status of 400")
    check(
        tab,
        file("cut.jpg", noise.getvalue()[:900], "image/jpeg"),
        "red",
        "#pair-problem:not([hidden])",
    )
    assert "damaged or cut short" in tab.inner_text("#pair-problem")
    tab.set_input_files("#image", file("lie.png", b"\x89PNG\r\n\x1a\n" + b"x" * 50))
    assert (
        tab.locator("#no-preview").inner_text() == "This browser shows no preview of such a file."
    )
    tab.click("#check")
    tab.locator("#pair-problem", has_text="Truncated File Read").wait_for()
    assert tab.inner_text("#check") == "Check"
    assert not tab.is_visible("#result")


def test_an_image_that_no_request_could_hold_is_not_sent(opened: Open, colour_engine: Any) -> None:
    with Server({"default": Predictor(colour_engine())}, max_body=2**16 + 4000) as at:
        tab = opened(at=at)
        tab.wait_for_selector("#model-facts:not(:empty)")
        tab.set_input_files("#image", file("large.png", image("red") + b"x" * 3000))
        tab.wait_for_selector("#pair-problem")
        assert "this service takes 3,000" in tab.inner_text("#pair-problem")
        batch(
            tab,
            table(("large.png", "red"), ("small.png", "red")),
            file("large.png", image("red") + b"x" * 3000),
            file("small.png", image("red")),
        )
        assert [line[-1] for line in lines(tab)] == ["Error", "Match"]


def test_without_an_image_or_a_text_it_says_which_is_missing(opened: Open) -> None:
    tab = opened()
    tab.click("#check")
    assert tab.inner_text("#pair-problem") == "An image is needed first."
    assert tab.evaluate("document.activeElement.id") == "image"
    tab.set_input_files("#image", file("red.png", image("red")))
    tab.wait_for_selector("#preview")
    tab.click("#check")
    assert tab.inner_text("#pair-problem") == "A text is needed first."
    assert tab.evaluate("document.activeElement.id") == "text"


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_an_image_can_be_pasted_and_dropped(opened: Open, way: str) -> None:
    tab = opened()
    tab.evaluate(
        """([way, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "from-elsewhere.png", {type: "image/png"}));
            const place = document.getElementById(way === "paste" ? "text" : "drop");
            const options = {bubbles: true, cancelable: true, clipboardData: data, dataTransfer: data};
            if (way === "paste") place.dispatchEvent(new ClipboardEvent("paste", options));
            else for (const kind of ["dragenter", "dragover", "drop"]) place.dispatchEvent(new DragEvent(kind, options));
        }""",
        [way, list(image("red"))],
    )
    tab.wait_for_selector("#preview")
    assert tab.inner_text("#image-name").startswith("from-elsewhere.png, 20 × 12 pixels")
    assert not tab.evaluate("document.getElementById('picture-card').classList.contains('over')")


def test_a_paste_of_words_into_the_text_stays_one(opened: Open) -> None:
    tab = opened()
    kept = tab.evaluate(
        """bytes => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "cells.png", {type: "image/png"}));
            data.setData("text/plain", "cells as words");
            return document.getElementById("text").dispatchEvent(new ClipboardEvent("paste", {bubbles: true, cancelable: true, clipboardData: data}));
        }""",
        list(image("red")),
    )
    assert kept, "the browser pastes"
    assert not tab.is_visible("#figure")


def test_the_keyboard_alone_is_enough(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "blue.png").write_bytes(image("blue"))
    tab = opened()
    # from the start: that it is listened for reaches the browser late
    tab.on("filechooser", lambda chooser: chooser.set_files(tmp_path / "blue.png"))
    tab.wait_for_selector("#model-facts:not(:empty)")

    def to(name: str) -> None:
        for _ in range(20):
            tab.keyboard.press("Tab")
            if tab.evaluate("document.activeElement.id") == name:
                break
        assert tab.evaluate("document.activeElement.id") == name
        outline = (
            "(element => [element, element.closest('label')].some(one => one &&"
            " getComputedStyle(one).outlineStyle === 'solid'))(document.activeElement)"
        )
        assert tab.evaluate(outline), f"{name} shows no focus"

    to("pair-tab")
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("document.activeElement.id") == "batch-tab"
    assert tab.is_visible("#batch")
    assert tab.evaluate(
        "['pair-tab', 'batch-tab'].map(id =>"
        " document.getElementById(id).getAttribute('aria-selected'))"
    ) == ["false", "true"]
    tab.keyboard.press("Home")
    assert tab.is_visible("#pair")
    to("image")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#preview")
    to("text")
    tab.keyboard.type("red shirt")
    tab.keyboard.press("Control+Enter")
    tab.wait_for_selector(SETTLED)
    assert tab.inner_text("#verdict").strip() == "Mismatch"
    assert tab.evaluate("document.activeElement.id") == "text", (
        "an answer does not take the focus away"
    )


def test_clear_takes_everything_away(opened: Open) -> None:
    tab = opened()
    check(tab, file("blue.png", image("blue")), "red shirt")
    tab.click("#clear")
    assert not any(tab.is_visible(name) for name in ("#result", "#figure", "#heat-tools"))
    assert tab.input_value("#text") == ""
    assert tab.inner_text("#drop-title") == "Drop an image here"


# --- many pairs


def test_a_csv_and_a_zip_become_results_and_a_download(opened: Open) -> None:
    content = '\ufeffshop,image_path,text\r\n"a,b",photos/red.png,"red ""big""\r\nshirt"\r\n'
    content += 'c,blue.png,red bag\r\nd,gone.png,red\r\n\r\ne,photos/green.png,"  "\r\n'
    tab = opened()
    batch(
        tab,
        file("pairs.csv", content.encode(), "text/csv"),
        zipped(PHOTOS | {"__MACOSX/photos/._red.png": b"x", "photos/readme.md": b"x"}),
    )
    assert finished(tab) == "Done: 1 mismatch, 0 to review, 1 match, 2 without a score."
    assert tab.inner_text("#matching") == "3 of 4 rows have their image; 1 lacks it."
    assert lines(tab) == [
        ["1", 'red "big" shirt', "photos/red.png", "0.731", "Match"],
        ["2", "red bag", "blue.png", "0.047", "Mismatch"],
        ["3", "red", "gone.png", "no image of this path was chosen", "", "Error"],
        ["4", "no text", "photos/green.png", "the text is empty", "", "Error"],
    ]
    header, *rows = downloaded(tab)
    assert header == [
        "shop",
        "image_path",
        "text",
        "similarity_score",
        "threshold",
        "prediction",
        "status",
    ]
    assert [row[0] for row in rows] == ["a,b", "c", "d", "e"]
    assert [row[1] for row in rows] == [
        "photos/red.png",
        "blue.png",
        "gone.png",
        "photos/green.png",
    ]
    assert [row[2] for row in rows] == ['red "big"\r\nshirt', "red bag", "red", "  "]
    assert [round(float(row[3]), 3) for row in rows[:2]] == [0.731, 0.047]
    assert [row[4:] for row in rows[:2]] == [["0.4", "match", "ok"], ["0.4", "mismatch", "ok"]]
    assert [row[3:] for row in rows[2:]] == [
        ["", "", "error", "no image of this path was chosen"],
        ["", "", "error", "the text is empty"],
    ]
    assert tab.locator("#table img:visible").count() == 3
    tab.click("text=Which images are missing")
    assert tab.inner_text("#missing li") == "gone.png: no image of this path was chosen"


def test_a_folder_with_everything_in_it(opened: Open, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    for name in ("front", "back"):
        (folder / name).mkdir(parents=True)
    (folder / "front" / "1.png").write_bytes(image("red"))
    (folder / "back" / "1.png").write_bytes(image("blue"))
    (folder / "back" / "2.png").write_bytes(image("green"))
    rows = [
        "Title,Image\nred bag,front/1.png\nred bag,back/1.png\ngreen bag,back\\2.PNG\nred,1.png\n"
    ]
    (folder / "rows.csv").write_text(rows[0])
    tab = opened()
    tab.wait_for_selector("#model-facts:not(:empty)")
    tab.click("#batch-tab")
    tab.set_input_files("#batch-folder", folder)
    tab.wait_for_selector("#rows:not([hidden])")
    chosen = (
        "['image-column', 'text-column'].map(id =>"
        " document.getElementById(id).selectedOptions[0].text)"
    )
    assert tab.evaluate(chosen) == ["Image", "Title"]
    assert (
        tab.inner_text("#chosen").replace("Remove", "").split("\n")[0].strip() == "rows.csv: 4 rows"
    )
    tab.click("#start")
    finished(tab)
    assert [line[-1] for line in lines(tab)] == ["Match", "Mismatch", "Match", "Error"]
    assert "2 images have this name; write more of the path" in lines(tab)[3]


def test_columns_of_other_names_can_be_chosen_and_files_removed(opened: Open) -> None:
    tab = opened()
    tab.click("#batch-tab")
    tab.set_input_files(
        "#batch-files",
        [
            table(("red bag", "blue bag", "red.png"), header=("a", "b", "c")),
            file("red.png", image("red")),
        ],
    )
    tab.wait_for_selector("#rows:not([hidden])")
    tab.select_option("#image-column", label="c")
    tab.select_option("#text-column", label="b")
    assert tab.inner_text("#first-row") == "First row: red.png · blue bag"
    tab.click("#start:enabled")
    finished(tab)
    assert lines(tab) == [["1", "blue bag", "red.png", "0.047", "Mismatch"]]
    tab.click("[aria-label='Remove red.png']")
    assert tab.is_disabled("#start")
    assert not tab.is_visible("#results")
    tab.set_input_files("#batch-files", file("notes.docx", b"x"))
    tab.wait_for_selector("#files-problem")
    assert tab.inner_text("#files-problem") == "notes.docx: it is neither a CSV, a zip nor an image"
    tab.set_input_files("#batch-files", file("broken.zip", b"x" * 100))
    tab.locator(
        "#files-problem", has_text="broken.zip: the file is no zip, or it is cut short"
    ).wait_for()


def test_filters_order_and_pages(opened: Open) -> None:
    texts = [
        f"{colour} {kind} {number}"
        for number in range(15)
        for kind in ("bag", "shirt")
        for colour in ("red", "grey")
    ]
    rows = [(f"photos/{image}.png", text) for text in texts for image in COLOURS]
    tab = opened()
    batch(tab, table(*rows, ("gone.png", "red bag x")), zipped(PHOTOS, zipfile.ZIP_STORED))
    assert tab.inner_text("#decisions").split() == [
        "All",
        "181",
        "Mismatch",
        "150",
        "Review",
        "0",
        "Match",
        "30",
        "No",
        "score",
        "1",
    ]
    assert tab.inner_text("#shown") == "Rows 1 to 50 of 181"
    tab.click("#after")
    assert lines(tab)[0][0] == "51"
    assert tab.inner_text("#page-number") == "Page 2 of 4"
    tab.select_option("#order", "down")
    assert [line[3] for line in lines(tab)][:2] == ["0.731", "0.731"]
    tab.select_option("#order", "up")
    assert lines(tab)[0][3] == "0.047"
    tab.click("#decisions button:has-text('Match')  >> nth=1")
    assert tab.get_attribute("#decisions button >> nth=3", "aria-pressed") == "true"
    tab.fill("#search", "SHIRT 1")
    assert tab.inner_text("#shown") == "Rows 1 to 6 of 6", "1, 10, 11, 12, 13, 14"
    assert not tab.is_visible("#pager")
    tab.check("#only-shown")
    assert len(downloaded(tab)) == 7
    tab.fill("#search", "nothing like it")
    assert tab.inner_text("#shown") == "No row is like that."


def test_a_row_can_be_looked_at_closer(opened: Open) -> None:
    tab = opened()
    batch(tab, table(("photos/blue.png", "red shirt")), zipped(PHOTOS))
    tab.click("[aria-label='Look closer at row 1']")
    tab.wait_for_selector(SETTLED)
    assert tab.inner_text("mark").startswith("red")
    assert tab.input_value("#text") == "red shirt"
    assert tab.get_attribute("#pair-tab", "aria-selected") == "true"
    tab.click("#batch-tab")
    assert lines(tab)[0][0] == "1", "the results are still there"


def test_a_bad_image_or_row_costs_no_other_row_its_score(opened: Open) -> None:
    tab = opened(may_say="status of 400")
    bad = {"lie.png": b"\x89PNG\r\n\x1a\n" + b"x" * 50, "notes.jpg": b"hello", "empty.jpg": b""}
    rows = [
        ("photos/red.png", "red"),
        ("lie.png", "red"),
        ("notes.jpg", "red"),
        ("photos/blue.png", "red"),
        ("lie.png", "blue"),
        ("empty.jpg", "red"),
    ]
    batch(
        tab,
        table(*rows, ("photos/red.png", "a", "b"), ("photos/red.png", "x" * 8001)),
        zipped(PHOTOS | bad),
    )
    assert [line[-1] for line in lines(tab)] == [
        "Match",
        "Error",
        "Error",
        "Mismatch",
        "Error",
        "Error",
        "Error",
        "Error",
    ]
    reasons = [line[3] for line in lines(tab) if line[-1] == "Error"]
    assert reasons[0] == reasons[2]
    assert reasons[0].startswith("the image can't be decoded")
    assert reasons[1].startswith("the file is no image of a known format")
    assert reasons[3:] == [
        "the image is empty (0 bytes)",
        "line 8 has 3 fields where the header has 2",
        "the text has more than 8,000 characters",
    ]


def test_a_busy_or_small_service_gets_smaller_requests_again(
    opened: Open, colour_engine: Any
) -> None:
    """The service takes three pairs a request, and is busy at first: a proxy before it says so."""
    with Server({"default": Predictor(colour_engine())}, max_pairs=3) as at:
        tab = opened(at=at, may_say="status of 50")
        sizes: list[int] = []

        def busy(route: Any) -> None:
            sizes.append(len(json.loads(route.request.post_data)["pairs"]))
            refused = {1: (503, "busy"), 2: (504, "late")}.get(len(sizes))
            if refused is None:
                route.continue_()
            else:
                route.fulfill(
                    status=refused[0],
                    headers={"retry-after": "1"},
                    content_type="application/problem+json",
                    body=json.dumps({"detail": refused[1]}),
                )

        tab.route("**/v1/predict/batch", busy)
        batch(
            tab,
            table(*[(f"photos/{name}.png", f"{name} bag") for name in COLOURS] * 2),
            zipped(PHOTOS),
        )
        assert finished(tab) == "Done: 0 mismatches, 0 to review, 6 matches, 0 without a score."
        assert sizes[:4] == [3, 3, 1, 2]
        assert max(sizes) <= 3


def test_cancelled_rows_can_be_checked_later(opened: Open) -> None:
    tab = opened(may_say="ERR_FAILED")
    asked: list[Any] = []

    def answer_the_first(route: Any) -> None:
        asked.append(route)
        if len(asked) == 1:
            route.continue_()

    tab.route("**/v1/predict/batch", answer_the_first)
    tab.wait_for_selector("#model-facts:not(:empty)")
    tab.click("#batch-tab")
    rows = [
        (f"photos/{name}.png", f"{name} bag {number}") for number in range(10) for name in COLOURS
    ]
    tab.set_input_files("#batch-files", [table(*rows), zipped(PHOTOS)])
    tab.click("#start:enabled")
    tab.locator("#progress-words", has_text="8 of 30 rows").wait_for()
    assert tab.evaluate("document.activeElement.id") == "cancel"
    assert tab.is_disabled("#text-column")
    tab.keyboard.press("Enter")
    assert (
        finished(tab, "Cancelled")
        == "Cancelled: 0 mismatches, 0 to review, 8 matches, 0 without a score."
    )
    assert [row[2:] for row in downloaded(tab)[1:]].count(["", "", "", "not checked yet"]) == 22
    assert not tab.is_visible("#batch-problem")
    tab.unroute("**/v1/predict/batch")
    assert tab.inner_text("#start") == "Check the other 22 rows"
    tab.click("#start")
    assert finished(tab) == "Done: 0 mismatches, 0 to review, 30 matches, 0 without a score."
    assert tab.inner_text("#start") == "All rows are checked"


def test_a_service_that_fails_midway_leaves_what_was_scored(opened: Open) -> None:
    tab = opened(may_say="status of 500")
    calls: list[int] = []

    def failing(route: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            route.continue_()
        else:
            route.fulfill(status=500, body="<html>", content_type="text/html")

    tab.route("**/v1/predict/batch", failing)
    tab.wait_for_selector("#model-facts:not(:empty)")
    tab.click("#batch-tab")
    tab.set_input_files(
        "#batch-files",
        [
            table(
                *[
                    (f"photos/{name}.png", f"{name} bag {number}")
                    for number in range(5)
                    for name in COLOURS
                ]
            ),
            zipped(PHOTOS),
        ],
    )
    tab.click("#start:enabled")
    assert (
        finished(tab, "Stopped")
        == "Stopped: 0 mismatches, 0 to review, 8 matches, 0 without a score."
    )
    assert (
        tab.inner_text("#batch-problem")
        == "Stopped with 7 rows left: the service answered 500. The button above goes on from"
        " there."
    )
    assert tab.evaluate("document.activeElement.id") == "start"
    tab.unroute("**/v1/predict/batch")
    tab.keyboard.press("Enter")
    assert finished(tab) == "Done: 0 mismatches, 0 to review, 15 matches, 0 without a score."
    assert not tab.is_visible("#batch-problem")


def test_cells_that_look_like_formulas_are_guarded_when_asked(opened: Open) -> None:
    tab = opened()
    batch(
        tab,
        table(
            ("photos/red.png", "=1+1", "-1.5", "@x"),
            header=("image_path", "text", "price", "handle"),
        ),
        zipped(PHOTOS),
    )
    assert downloaded(tab)[1][:4] == ["photos/red.png", "=1+1", "-1.5", "@x"]
    tab.check("#guard")
    header, row = downloaded(tab)
    assert header[0] == "\ufeffimage_path"
    assert row[:4] == ["photos/red.png", "'=1+1", "-1.5", "'@x"]


def test_markup_from_files_is_text(opened: Open) -> None:
    evil = '<img src="//evil.example/x.png" onerror="alert(1)"><b>red</b>'
    tab = opened()
    tab.on("dialog", lambda dialog: pytest.fail(dialog.message))
    batch(
        tab,
        table(
            ("photos/blue.png", evil, "1"), (evil, "red", "1"), header=("image_path", "text", evil)
        ),
        zipped(PHOTOS | {f"{evil}.png": image("red")}),
    )
    assert lines(tab)[0][1] == evil
    assert lines(tab)[1][2] == evil
    tab.click("[aria-label='Look closer at row 1']")
    tab.wait_for_selector(SETTLED)
    tab.evaluate("document.querySelectorAll('blockquote .heard').forEach(words => words.remove())")
    assert tab.text_content("blockquote") == evil
    assert tab.locator("main :is(img[src*=evil], img[onerror])").count() == 0


def test_thresholds_by_slice_come_from_a_column(opened: Open, colour_engine: Any) -> None:
    score = ScoreSpec(
        "probability", 0.5, slices=SliceThresholds("shop", {"strict": 0.9}, {"strict": 40})
    )
    with Server({"default": Predictor(colour_engine(score=score))}) as at:
        tab = opened(at=at)
        rows = [("photos/red.png", "red", "strict"), ("photos/red.png", "red", "other")]
        batch(tab, table(*rows, header=("image_path", "text", "shop")), zipped(PHOTOS))
        assert [line[-1] for line in lines(tab)] == ["Mismatch", "Match"]


# --- the whole page


def test_a_token_is_asked_for_and_kept_for_the_tab_alone(opened: Open, colour_engine: Any) -> None:
    with Server({"default": Predictor(colour_engine())}, tokens=(TOKEN,)) as at:
        tab = opened(at=at, may_say="status of 401")
        tab.wait_for_selector("#token-dialog[open]")
        assert not tab.is_visible("#token-wrong")
        tab.keyboard.type("a wrong one")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#token-wrong")
        assert tab.input_value("#token") == ""
        tab.keyboard.press("Escape")
        tab.locator("#page-problem", has_text="a bearer token is needed").wait_for()
        tab.click("#page-problem button")
        tab.fill("#token", TOKEN)
        tab.click("#token-dialog .primary")
        check(tab, file("blue.png", image("blue")), "red shirt")
        assert tab.evaluate(
            "[Object.values(sessionStorage), Object.values(localStorage), document.cookie]"
        ) == [[TOKEN], [], ""]
        tab.reload()
        tab.wait_for_selector("#model-facts:not(:empty)")
        assert not tab.is_visible("#token-dialog")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_all_words_can_be_read(opened: Open, width: int, scheme: str) -> None:
    tab = opened(width, scheme)
    check(
        tab,
        file("blue.png", image("blue")),
        "red shirt " + "averyveryveryverylongwordwithoutanyspaceinit" * 4,
    )
    tab.click("#result summary")
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate(UNREADABLE) == []
    rows = [
        ("photos/red.png", "red " + "averyveryveryverylongwordwithoutanyspaceinit" * 4),
        ("photos/blue.png", "red"),
        ("gone/" * 40 + "x.png", "red"),
    ]
    batch(tab, table(*rows, header=("image_path", "text")), zipped(PHOTOS))
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate(UNREADABLE) == []
    overlaps = """() => [...document.querySelectorAll("#table tbody tr")].flatMap(row => {
        const boxes = [...row.cells].flatMap(cell => [...cell.children]).filter(one => one.checkVisibility()).map(one => one.getBoundingClientRect());
        const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
        return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => meet(a, b)));
    })"""
    assert tab.evaluate(overlaps) == []


UNREADABLE = """() => {  // texts whose contrast with what lies behind them is under 4.5 (WCAG AA)
    const pen = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d", {willReadFrequently: true});
    const paint = (...colours) => {
        pen.clearRect(0, 0, 1, 1);
        for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
        const linear = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        const [red, green, blue] = [...pen.getImageData(0, 0, 1, 1).data].map(value => linear(value / 255));
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const grounds = element => element ? [...grounds(element.parentElement), getComputedStyle(element).backgroundColor] : [];
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        const words = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join("");
        if (!words || !element.checkVisibility() || element.closest("option, noscript, .heard, :disabled")) continue;
        const ground = grounds(element), [low, high] = [paint(...ground), paint(...ground, getComputedStyle(element).color)].sort((a, b) => a - b);
        if ((high + 0.05) / (low + 0.05) < 4.5) found.push(`${words}: ${((high + 0.05) / (low + 0.05)).toFixed(2)}`);
    }
    return found;
}"""


def test_every_control_has_a_name_and_every_tab_its_panel(opened: Open) -> None:
    tab = opened()
    batch(tab, table(("photos/red.png", "red")), zipped(PHOTOS))
    assert (
        tab.get_by_role("tab", name="Many pairs", selected=True).get_attribute("aria-controls")
        == "batch"
    )
    assert tab.get_by_role("tabpanel", name="Many pairs").is_visible()
    for role, name in (
        ("combobox", "Text"),
        ("searchbox", "Find in text or path"),
        ("combobox", "Order"),
        ("button", "Look closer at row 1"),
        ("table", "Results"),
    ):
        assert tab.get_by_role(role, name=name).first.is_visible(), name
    for name in ("Drop CSV, zip or images here", "Choose a folder"):
        assert tab.get_by_label(name).count() == 1, name
    tab.click("#pair-tab")
    assert tab.get_by_role("textbox", name="Text").is_visible()
    assert tab.get_by_label("Drop an image here").get_attribute("type") == "file"


def test_a_service_that_is_gone_is_said_in_words(opened: Open, colour_engine: Any) -> None:
    with Server({"default": Predictor(colour_engine())}) as at:
        tab = opened(at=at, may_say="ERR_CONNECTION_REFUSED")
        tab.wait_for_selector("#model-facts:not(:empty)")
    check(tab, file("blue.png", image("blue")), "red", "#pair-problem:not([hidden])")
    assert tab.inner_text("#pair-problem") == "The service can’t be reached; it may have stopped."
