"""The pictures of README and site, made from quickstart's catalogue: `mismatch quickstart`, then
`python docs/pictures.py mismatch_quickstart`. Pages are photographed in the operating system's
chromium, by playwright.
"""

from __future__ import annotations

import csv
import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from PIL import Image

IMAGES = Path(__file__).resolve().parent / "images"
# the mismatch that is explained, as on the page about quickstart
PAIR = {"image_path": "images/test/00790.jpg", "text": "Blue stripy bags, set of 2"}
ROWS = 600  # of the audit that is shown
COLOURS = 128  # of a picture, which keeps it small
MAX_BYTES = 60_000
WIDTH = 1000  # pixels, of a page
HEIGHT = 800  # pixels, of its top

Row = dict[str, str]


def main() -> None:
    """Make all pictures."""
    folder = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        explained(folder, PAIR, work)
        save(Image.open(folder / "model" / "training_curves.png"), "training-curves")
        with browser() as chromium:
            report(folder, chromium, work)
            audit(folder, chromium, work)
            page(folder, PAIR, chromium)


def explained(folder: Path, row: Row, work: Path) -> None:
    """Save an explanation as the command writes it."""
    image = folder / row["image_path"]
    options = ["--model", folder / "bundle", "--image", image, "--text", row["text"]]
    run("explain", *options, "--output", work / "why.png")
    save(Image.open(work / "why.png"), "explanation")


def report(folder: Path, chromium: Any, work: Path) -> None:
    """Photograph the top of an evaluation's page."""
    rows = ["--csv", "test.csv", "--report", work / "evaluation"]
    run("evaluate", "--model", "bundle", *rows, cwd=folder)
    photograph(chromium, (work / "evaluation" / "report.html").as_uri(), "report")


def audit(folder: Path, chromium: Any, work: Path) -> None:
    """Photograph the page of an audit of rows with faults of four kinds."""
    with (folder / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:ROWS]
    rows[3]["text"] = ""
    rows[5]["image_path"] = "images/lost.jpg"
    rows[7]["text"] = f"Caf\u00c3\u00a9 <b>{rows[7]['text']}</b>"
    rows[9]["label"] = "yes"
    with (work / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    options = ["--image-base-path", folder, "--report", "audit.html"]
    run("validate", "train.csv", *options, cwd=work, may_fail=True)
    photograph(chromium, (work / "audit.html").as_uri(), "audit")


def page(folder: Path, row: Row, chromium: Any) -> None:
    """Photograph the service's page with the answer to one pair."""
    with service(folder / "bundle") as address:
        tab = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.goto(address)
        tab.set_input_files("#image", folder / row["image_path"])
        tab.fill("#text", row["text"])
        tab.click("#check")
        tab.wait_for_selector("#heat-tools:not([hidden])")
        save(Image.open(io.BytesIO(tab.screenshot())), "page")


@contextmanager
def service(bundle: Path) -> Iterator[str]:
    """Serve the bundle; yield the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mismatch", "serve", "--model", str(bundle)]
    process = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        wait_for(f"{address}readyz")
        yield address
    finally:
        process.terminate()
        process.wait()


def wait_for(address: str) -> None:
    """Wait until it answers, a minute at most."""
    for _ in range(600):
        try:
            with urlopen(address):  # our own service
                return
        except (URLError, ConnectionError):
            time.sleep(0.1)
    raise TimeoutError(address)


@contextmanager
def browser() -> Iterator[Any]:
    """Start chromium."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def photograph(chromium: Any, address: str, name: str) -> None:
    """Save the top of a page."""
    tab = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    tab.goto(address)
    save(Image.open(io.BytesIO(tab.screenshot())), name)


def save(picture: Image.Image, name: str) -> None:
    """Write a picture with few colours; refuse one that is too large for a page."""
    path = IMAGES / f"{name}.png"
    for colours in (COLOURS, COLOURS // 2, COLOURS // 4):
        small = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        if path.stat().st_size <= MAX_BYTES:
            return
    raise ValueError(f"{path} has {path.stat().st_size:,} bytes, {MAX_BYTES:,} at most are wanted")


def run(*words: object, cwd: Path | None = None, may_fail: bool = False) -> None:
    """Run a command of mismatch."""
    command = [sys.executable, "-m", "mismatch", *map(str, words)]
    subprocess.run(command, cwd=cwd, check=not may_fail, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
