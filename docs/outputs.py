"""The outputs that how-to pages show, made again in a folder of quickstart's: `mismatch
quickstart`, then `python docs/outputs.py mismatch_quickstart [PAGE …]`. It rewrites the pages;
look at what changed before you keep it.

A block of Bash or Python with a block of text right behind it is run, and its output takes the
place of that text; so are the commands behind `$` in a text. Lines `…` stand for what is left out,
and stay.
"""

from __future__ import annotations

import csv
import difflib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HOW_TO = Path(__file__).resolve().parent / "how-to"
# pages whose commands run in quickstart's folder, and end by themselves
PAGES = (
    "audit",
    "backbone-and-tuning",
    "calibrate-and-threshold",
    "catalogue",
    "data-formats",
    "evaluate",
    "explain",
    "int8-gpu-triton",
    "memory-and-gpus",
    "wrong-labels",
)
NOT_RUN = ("pip install", "curl", "tritonserver", "python examples/", "mismatch serve")
# the second model of the page that compares two
INT8 = (
    "mismatch export-onnx --model model/best_model --output bundle-int8 --precision int8"
    " --verify-csv val.csv --image-base-path ."
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ELLIPSIS = "…"
MIN_LIKENESS = 0.5  # of a shown line and its new form, digits left out
MAX_SECONDS = 900


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    start: int  # of the text, in the page
    end: int


def main() -> None:
    """Rewrite the pages that are named, or all."""
    folder = Path(sys.argv[1]).resolve()
    for name in sys.argv[2:] or PAGES:
        with tempfile.TemporaryDirectory() as place:
            work = Path(place) / folder.name
            shutil.copytree(folder, work)
            prepare(work)
            if name == "evaluate":
                run("bash", INT8, work, name)
            rewrite(HOW_TO / f"{name}.md", work)


def rewrite(page: Path, work: Path) -> None:
    """Run a page's commands in `work`, in their order, and put their outputs into it."""
    written = page.read_text(encoding="utf-8")
    changed, place = [], 0
    blocks = [Block(m[1], m[2], m.start(2), m.end(2)) for m in BLOCK.finditer(written)]
    for before, block in zip([None, *blocks], blocks, strict=False):
        if block.language != "text":
            continue
        adjoining = before is not None and not written[before.end : block.start - 8].strip("`\n")
        source = before if adjoining else None
        changed += [written[place : block.start], output(block.text, source, work, page.stem)]
        place = block.end
    page.write_text("".join([*changed, written[place:]]), encoding="utf-8")


def output(shown: str, source: Block | None, work: Path, page: str) -> str:
    """Return what stands in a block of text now."""
    parts = re.split(r"^(?=\$ )", shown, flags=re.MULTILINE)
    first = parts.pop(0)
    if source is not None and source.language in ("bash", "python"):
        first = cut(first, run(source.language, source.text, work, page), page)
    answers = []
    for part in parts:
        command, _, answer = part.partition("\n")
        new = run("bash", command[2:], work, page)
        answers.append(f"{command}\n{cut(answer, new, page)}")
    return "".join([first, *answers])


def run(language: str, code: str, work: Path, page: str) -> str:
    """Return what a block prints; nothing where it is not run."""
    kept = [line for line in code.splitlines() if not line.startswith(NOT_RUN)]
    if not kept:
        return ""
    command = [sys.executable, "-c"] if language == "python" else ["bash", "-c"]
    done = subprocess.run(
        [*command, "\n".join(kept)],
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=MAX_SECONDS,
        check=False,
    )
    if done.returncode:
        say(f"{page}: {kept[0]!r} ends with {done.returncode}")
    return done.stdout


def cut(shown: str, new: str, page: str) -> str:
    """Return of `new` what `shown` has of the output before, between its lines `…`."""
    if not new:
        return shown
    long = [line[:-1] for line in shown.splitlines() if line.endswith(ELLIPSIS) and line[:-1]]
    for beginning in long:  # of a line whose end is left out
        new = re.sub(rf"^({re.escape(beginning)}).*$", rf"\1{ELLIPSIS}", new, flags=re.MULTILINE)
    if ELLIPSIS not in shown.splitlines():
        return new.rstrip() + "\n" + ("\n" if shown.endswith("\n\n") else "")
    lines, kept, place = new.splitlines(), list[str](), 0
    for part in re.split(rf"^({ELLIPSIS})\n", shown, flags=re.MULTILINE):
        old = part.splitlines()
        if part == ELLIPSIS or not part.strip():
            kept += old
            continue
        start = nearest(old, lines, place)
        if start is None:
            say(f"{page}: nothing is like {old[0]!r}")
            return shown
        place = start + len(old)
        kept += lines[start:place]
    return "\n".join(kept) + "\n"


def nearest(old: list[str], lines: list[str], place: int) -> int | None:
    """Return where, from `place` on, lines stand that are most like those that were shown."""
    starts = range(place, len(lines) - len(old) + 1)
    likeness = {start: sum(map(like, old, lines[start:])) / len(old) for start in starts}
    best = max(likeness, key=likeness.__getitem__, default=None)
    return best if best is not None and likeness[best] >= MIN_LIKENESS else None


def like(one: str, other: str) -> float:
    """0 to 1.5: how alike two lines are, whatever their figures; 2 where they are the same."""
    if one == other:
        return 2.0
    first, second = (re.sub(r"\d+", "0", line) for line in (one, other))
    is_same_row = one.split()[:1] == other.split()[:1]  # of a table
    return difflib.SequenceMatcher(None, first, second).ratio() + 0.5 * is_same_row


def prepare(work: Path) -> None:
    """Write the files that pages tell of."""
    rows = {part: table(work / f"{part}.csv") for part in ("train", "test")}
    write(work / "articles.csv", [{**row, "article": article(row["text"])} for row in rows["test"]])
    faulty(work, rows["train"][:600])
    named = ("mismatch", "match")
    listings = [
        f'{{"photo": "{row["image_path"]}", "title": "{row["text"]}", "verdict":'
        f' "{named[int(row["label"])]}"}}\n'
        for row in rows["train"][:400]
    ]
    (work / "listings.jsonl").write_text("".join(listings), encoding="utf-8")
    shop(work, rows["test"][:3])
    shard(work, rows["test"][:3])


def faulty(work: Path, rows: list[dict[str, str]]) -> None:
    """Write listings.csv, with a fault of each kind."""
    rows = [{name: row[name] for name in ("image_path", "text", "label")} for row in rows]
    rows[16]["image_path"] = "images/gone.png"
    rows[40]["label"] = "yes"
    rows[52]["text"] = ""
    rows[77]["text"] = f"<b>{rows[77]['text']}</b>"
    rows.append(dict(rows[3]))
    rows.append({**rows[5], "label": str(1 - int(rows[5]["label"]))})
    rows.append({"image_path": "images/test/00055.jpg", "text": "a red bag", "label": "0"})
    write(work / "listings.csv", rows)


def shop(work: Path, rows: list[dict[str, str]]) -> None:
    """Write a folder of photos, and titles of these and one more."""
    (work / "shop").mkdir()
    titles = []
    for number, row in enumerate(rows):
        shutil.copy(work / row["image_path"], work / "shop" / f"{number}.jpg")
        titles.append({"image_path": f"{number}.jpg", "text": row["text"]})
    write(work / "titles.csv", [*titles, {"image_path": "9.jpg", "text": "Blue shirt"}])


def shard(work: Path, rows: list[dict[str, str]]) -> None:
    """Write a shard as webdataset has them."""
    place = work / "shard"
    place.mkdir()
    names = []
    for number, row in enumerate(rows):
        shutil.copy(work / row["image_path"], place / f"{number}.jpg")
        (place / f"{number}.txt").write_text(row["text"], encoding="utf-8")
        names += [f"{number}.jpg", f"{number}.txt"]
    subprocess.run(["tar", "-cf", work / "shard-000000.tar", "-C", place, *names], check=True)


def article(title: str) -> str:
    """Return what a title sells."""
    articles = {
        "lamp": "lamp",
        "cushion": "cushion|pillow",
        "sock": "sock",
        "umbrella": "umbrella|brolly|brollies",
        "shirt": "shirt|tee",
        "vase": "vase",
        "mug": "mug|cup",
        "bag": "bag|tote",
    }
    return next(name for name, words in articles.items() if re.search(words, title.lower()))


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as a CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def say(line: str) -> None:
    """Tell what a person has to look at."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
