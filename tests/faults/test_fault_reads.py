"""Images, rows and models that can't be read for a moment or for ever, that vanish or change during
a run.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

SAME = "tried again a bounded number of times; the same bytes as an undisturbed run"
SLOW = (
    "import time; from mismatch.jobs.output.resumable_file import ResumableFile as File;"
    " real = File.commit; File.commit = lambda *a: (time.sleep(0.05), real(*a))[1]\n"
)

PASSING = [
    pytest.param(
        "read",
        errno.EIO,
        3,
        marks=pytest.mark.fault("reading an image fails three times (EIO)", "predict", SAME),
        id="read",
    ),
    pytest.param(
        "open",
        errno.ESTALE,
        2,
        marks=pytest.mark.fault(
            "an image's file handle is stale (ESTALE), the server restarted", "predict", SAME
        ),
        id="open",
    ),
    pytest.param(
        "stat",
        errno.ETIMEDOUT,
        2,
        marks=pytest.mark.fault(
            "the file server does not answer in time (ETIMEDOUT)", "predict", SAME
        ),
        id="stat",
    ),
    pytest.param(
        "read",
        errno.EAGAIN,
        3,
        marks=pytest.mark.fault("a read has to be repeated (EAGAIN)", "predict", SAME),
        id="again",
    ),
    pytest.param(
        "read",
        errno.EINTR,
        50,
        marks=pytest.mark.fault(
            "reads are interrupted by signals (EINTR), fifty times", "predict", SAME
        ),
        id="interrupted",
    ),
    pytest.param(
        "open",
        errno.EHOSTDOWN,
        3,
        marks=pytest.mark.fault("the file server's machine is down for a moment", "predict", SAME),
        id="down",
    ),
]


@pytest.mark.parametrize(("call", "number", "times"), PASSING)
def test_an_image_that_can_not_be_read_for_a_moment(
    cases: Any, shop: Path, call: str, number: int, times: int
) -> None:
    cases.predict(shop, fault=f"{call}:images/05.png:1:{times}:{number}").fine()
    cases.check_predicted(shop)


def statuses(shop: Path, name: str = "out.csv") -> dict[str, set[str]]:
    """What is said of each image."""
    found: dict[str, set[str]] = {}
    with (shop / name).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["image_path"], set()).add(row["status"])
    return found


def others_are_as_ever(cases: Any, shop: Path, image: str) -> str:
    """All rows but those of one image are the undisturbed ones; returns that one's status."""
    whole = cases.whole.decode().splitlines()
    ours = (shop / "out.csv").read_text(encoding="utf-8").splitlines()
    assert [line for line in ours if image not in line] == [
        line for line in whole if image not in line
    ]
    [status] = statuses(shop)[image]
    return status


GONE = "its rows' status says why, all other rows are the undisturbed ones"
LASTING = [
    pytest.param(
        "read",
        errno.EIO,
        "Input/output error, tried 4 times",
        marks=pytest.mark.fault("an image can't be read, ever (EIO)", "predict", GONE),
        id="broken",
    ),
    pytest.param(
        "open",
        errno.ESTALE,
        "Stale file handle, tried 4 times",
        marks=pytest.mark.fault("an image's handle stays stale", "predict", GONE),
        id="stale",
    ),
    pytest.param(
        "open",
        errno.EACCES,
        "Permission denied",
        marks=pytest.mark.fault("an image may not be read", "predict", f"{GONE}; not tried again"),
        id="denied",
    ),
    pytest.param(
        "open",
        errno.ENAMETOOLONG,
        "File name too long",
        marks=pytest.mark.fault("an image's name is too long for its disk", "predict", GONE),
        id="name",
    ),
]


@pytest.mark.parametrize(("call", "number", "said"), LASTING)
def test_an_image_that_can_never_be_read(
    cases: Any, shop: Path, call: str, number: int, said: str
) -> None:
    cases.predict(shop, fault=f"{call}:images/05.png:1:99999:{number}").fine()
    assert said in others_are_as_ever(cases, shop, "images/05.png")


@pytest.mark.fault("an image is deleted during the run", "predict", GONE)
def test_an_image_vanishes(cases: Any, shop: Path) -> None:
    process = cases.start_predict(shop, prelude=SLOW).until((shop / "out.csv.part.json").exists)
    (shop / "images" / "11.png").unlink()
    process.wait().fine()
    assert "images/11.png' not found; check its path" in others_are_as_ever(
        cases, shop, "images/11.png"
    )


@pytest.mark.fault("an image is cut short while it is read", "predict", GONE)
def test_an_image_is_cut_short(cases: Any, shop: Path) -> None:
    cases.predict(shop, fault="read:images/05.png:1:1:cut").fine()
    assert "it is damaged or cut short" in others_are_as_ever(cases, shop, "images/05.png")


@pytest.mark.fault(
    "a bitmap, which Pillow would map into memory, is cut short after it was opened",
    "predict",
    "its rows are scored, as it was read by then; no SIGBUS",
)
def test_a_bitmap_is_cut_short(cases: Any, shop: Path) -> None:
    (shop / "rows.csv").write_text("image_path,text\nimages/big.bmp,red\nimages/01.png,green\n")
    for number in (1, 2, 3):
        # grey: of these Pillow maps the pixels
        Image.effect_noise((900, 900), 80).save(shop / "images" / "big.bmp")
        cases.predict(shop, fault=f"close:big.bmp:{number}:1:cut").fine()
        assert len(statuses(shop)) == 2
        assert statuses(shop)["images/01.png"] == {"ok"}


@pytest.mark.fault(
    "an image grows: another program appends to it",
    "predict",
    "the same bytes as an undisturbed run",
)
def test_an_image_grows(cases: Any, shop: Path) -> None:
    process = cases.start_predict(shop, prelude=SLOW)
    with (shop / "images" / "11.png").open("ab") as file:
        for _ in range(50):
            file.write(bytes(1000))
            file.flush()
            time.sleep(0.005)
    process.wait().fine()
    cases.check_predicted(shop)


@pytest.mark.fault(
    "an image is replaced by another one during the run",
    "predict",
    "its score is that of the one or of the other, never of a mixture",
)
def test_an_image_is_replaced(cases: Any, shop: Path) -> None:
    shutil.copy(shop / "images" / "00.png", shop / "images" / "other.png")
    process = cases.start_predict(shop, prelude=SLOW).until((shop / "out.csv.part.json").exists)
    os.replace(shop / "images" / "other.png", shop / "images" / "11.png")
    process.wait().fine()
    replaced = [
        row
        for row in csv.DictReader(io.StringIO((shop / "out.csv").read_text(encoding="utf-8")))
        if row["image_path"] == "images/11.png"
    ]
    cases.predict(shop, output="after.csv").fine()
    known = [
        csv.DictReader(io.StringIO(text))
        for text in (cases.whole.decode(), (shop / "after.csv").read_text(encoding="utf-8"))
    ]
    scores = [{row["text"]: row["similarity_score"] for row in rows} for rows in known]
    assert replaced
    assert all(row["similarity_score"] in {one[row["text"]] for one in scores} for row in replaced)


KINDS = [
    pytest.param(
        "loop",
        "Too many levels of symbolic links",
        marks=pytest.mark.fault("a link that leads to itself, as an image", "predict", GONE),
        id="loop",
    ),
    pytest.param(
        "pipe",
        "is a folder or a device",
        marks=pytest.mark.fault(
            "a named pipe that nobody writes to, as an image",
            "predict",
            f"{GONE}; it does not wait",
        ),
        id="pipe",
    ),
    pytest.param(
        "folder",
        "is a folder or a device",
        marks=pytest.mark.fault("a folder, as an image", "predict", GONE),
        id="folder",
    ),
    pytest.param(
        "empty",
        "is empty (0 bytes)",
        marks=pytest.mark.fault("an empty file, as an image", "predict", GONE),
        id="empty",
    ),
    pytest.param(
        "dangling",
        "not found",
        marks=pytest.mark.fault("a link that leads nowhere, as an image", "predict", GONE),
        id="dangling",
    ),
]


@pytest.mark.parametrize(("kind", "said"), KINDS)
def test_what_is_no_image(cases: Any, shop: Path, kind: str, said: str) -> None:
    place = shop / "images" / "05.png"
    place.unlink()
    make: dict[str, Callable[[], None]] = {
        "loop": lambda: place.symlink_to(place),
        "pipe": lambda: os.mkfifo(place),
        "folder": place.mkdir,
        "empty": place.touch,
        "dangling": lambda: place.symlink_to(shop / "nowhere"),
    }
    make[kind]()
    cases.predict(shop).fine()
    assert said in others_are_as_ever(cases, shop, "images/05.png")


KEPT = "one line that names the file, done rows are kept; --resume gives the same bytes"


@pytest.mark.fault("the rows can't be read for a moment (EIO)", "predict", SAME)
def test_rows_that_can_not_be_read_for_a_moment(cases: Any, shop: Path) -> None:
    for first in (1, 3, 5):
        cases.predict(shop, fault=f"read:rows.csv:{first}:3:{errno.EIO}").fine()
        cases.check_predicted(shop)


@pytest.mark.fault("the rows can't be read any further (EIO)", "predict", KEPT)
def test_rows_that_can_not_be_read_to_their_end(cases: Any, shop: Path) -> None:
    (shop / "rows.csv").write_text(
        "\n".join(
            ["image_path,text", *(f"images/{i % 12:02}.png,{i} {'x' * 9000}" for i in range(30))]
        )
        + "\n"
    )
    cases.predict(shop, output="whole.csv").fine()
    # behind those for its header and its digest
    done = cases.predict(shop, fault=f"read:rows.csv:13:999:{errno.EIO}")
    assert "rows are kept" in done.err
    done.refused("rows.csv can't be read to its end: Input/output error, tried 4 times")
    cases.predict(shop, "--resume").fine()
    assert (shop / "out.csv").read_bytes() == (shop / "whole.csv").read_bytes()


@pytest.mark.fault(
    "the rows are deleted during the run",
    "predict",
    "it ends as ever, as it has them open; a run that goes on later says what is missing",
)
def test_the_rows_vanish(cases: Any, shop: Path) -> None:
    part = shop / "out.csv.part"
    process = cases.start_predict(shop, prelude=SLOW).until(
        lambda: part.exists() and part.stat().st_size
    )
    (shop / "rows.csv").unlink()
    process.wait().fine()
    cases.check_predicted(shop)
    cases.predict(shop, "--resume", output="other.csv").refused(
        "rows.csv: No such file or directory"
    )


@pytest.mark.fault(
    "the rows are changed between a run and its continuation",
    "predict --resume",
    "refused in one line; what was done stays",
)
def test_the_rows_change_before_it_goes_on(cases: Any, shop: Path) -> None:
    assert cases.predict(shop, fault="change:out.csv:30:1:kill").code == -9
    before = (shop / "out.csv.part").read_bytes()
    rows = (shop / "rows.csv").read_bytes()
    (shop / "rows.csv").write_bytes(rows.replace(b"shirt", b"skirt", 1))
    cases.predict(shop, "--resume").refused(
        "out.csv.part is of another run, which differs in the rows",
        "leave --resume out to begin again",
    )
    assert (shop / "out.csv.part").read_bytes() == before
    (shop / "rows.csv").write_bytes(rows)
    cases.resumed(shop)


@pytest.mark.fault(
    "a file of the model can't be read (EIO)", "predict", "one line that names the file"
)
def test_a_model_that_can_not_be_read(cases: Any, shop: Path) -> None:
    cases.predict(shop, fault=f"read:text_encoder.onnx:1:999:{errno.EIO}").refused(
        "text_encoder.onnx", "Input/output error, tried 4 times"
    )
    cases.predict(shop, fault=f"read:manifest.json:1:999:{errno.EIO}").refused(
        "manifest.json", "Input/output error"
    )
    cases.predict(shop, fault=f"read:text_encoder.onnx:1:3:{errno.EIO}").fine()
    cases.check_predicted(shop)


@pytest.mark.fault(
    "an image can't be read for a moment (EIO)", "train", "the same weights as an undisturbed run"
)
def test_train_reads_again(cases: Any, shop: Path) -> None:
    cases.train(shop, fault=f"read:images/05.png:1:3:{errno.EIO}").fine()
    cases.check_trained(shop)


@pytest.mark.fault(
    "an image can't be read, ever (EIO)",
    "train",
    "one line that names the image and the row; when it can be, the same weights",
)
def test_train_can_not_read(cases: Any, shop: Path) -> None:
    cases.train(shop, fault=f"read:images/05.png:1:9999:{errno.EIO}").refused(
        "train.csv:7: image", "Input/output error, tried 4 times"
    )
    cases.train_resumed(shop)


@pytest.mark.fault(
    "an image vanishes while a frozen backbone embeds",
    "train --tune head",
    "one line that names the image and the row; when it is back, it trains",
)
def test_train_of_a_head_misses_an_image(cases: Any, shop: Path, clean: Any) -> None:
    cases.train(shop, "head", fault=f"open:images/05.png:1:9999:{errno.ENOENT}").refused(
        "train.csv:7: image", "05.png' not found"
    )
    cases.train(shop, "head", "--resume").fine()
    clean(shop)


@pytest.mark.fault(
    "an image can't be read for a moment, or ever (EIO)",
    "validate",
    "read again; else exit code 1, and its rows are named with the reason",
)
def test_validate_reads_again(cases: Any, shop: Path) -> None:
    args = ("validate", "train.csv", "--num-workers", 1)
    whole = cases.commands.run(shop, *args).fine().out
    assert (
        cases.commands.run(shop, *args, fault=f"read:images/05.png:1:3:{errno.EIO}").fine().out
        == whole
    )
    done = cases.commands.run(shop, *args, fault=f"read:images/05.png:1:9999:{errno.EIO}")
    assert done.code == 1
    assert (
        "train.csv:7: image 'images/05.png' can't be read (Input/output error, tried 4 times)"
        in done.out
    )


@pytest.mark.fault(
    "the checkpoint can't be read (EIO)",
    "export-onnx",
    "one line that names the file; for a moment only: it succeeds",
)
def test_export_can_not_read(cases: Any, shop: Path) -> None:
    args = ("export-onnx", "--model", cases.model.checkpoint, "--output", "bundle")
    cases.commands.run(
        shop, *args, fault=f"read:best_model/open_clip_model:1:9999:{errno.EIO}"
    ).refused("open_clip_model.safetensors", "Input/output error")
    assert not (shop / "bundle").exists()
