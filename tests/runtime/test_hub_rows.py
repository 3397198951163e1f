"""Rows of a dataset on a hub: hf://datasets/OWNER/NAME, read as the files themselves are."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.errors import InputError, MissingExtraError
from mismatch.runtime.hub_rows import hub_rows
from tests.support.commands import run
from tests.support.embedded import drawn_rows, image_table
from tests.support.hub import TOKEN, Hub
from tests.support.paths import BUNDLE
from tests.support.rows import read_rows

pytest.importorskip("pyarrow")

NAME = "datasets/shop/toys"
URL = f"hf://{NAME}"
PARTS = ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet")
CSV = b"image_path,text,label\na.png,red,1\n"


def parquet(first: int, count: int, *, labels: Any = None) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = image_table(drawn_rows(first + count)[first:])
    values = [number % 2 for number in range(count)] if labels is None else labels
    file = io.BytesIO()
    pq.write_table(table.append_column("label", pa.array(values)), file)
    return file.getvalue()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {
        PARTS[0]: parquet(0, 12),
        PARTS[1]: parquet(12, 12),
        "data/test-00000-of-00001.parquet": parquet(24, 6),
        "README.md": b"# Toys\n",
        "toys.py": b"raise SystemExit",
        "weights.pkl": b"x",
    }


@pytest.fixture
def toys(hub: Hub, files: dict[str, bytes]) -> str:
    """Return the commit of a dataset on the hub."""
    return hub.add(NAME, files)


@pytest.fixture
def local(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """Return the same files in a folder."""
    for name in PARTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(files[name])
    return tmp_path / "data" / "train-{00000..00001}-of-00002.parquet"


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_scores_are_those_of_the_files(toys: str, local: Path) -> None:
    model = mismatch.load(BUNDLE)
    of_hub = [found.similarity_score for _row, found in model.predict_rows(f"{URL}/train")]
    assert len(of_hub) == 24
    assert None not in of_hub
    assert of_hub == [found.similarity_score for _row, found in model.predict_rows(local)]


def test_an_audit_says_the_same(toys: str, local: Path) -> None:
    of_hub, of_files = mismatch.audit(f"{URL}/train"), mismatch.audit(local)
    assert of_hub.ok
    assert [line.replace(f"{URL}/train", "") for line in of_hub.lines()] == [
        line.replace(str(local), "") for line in of_files.lines()
    ]


def test_a_split_names_images_that_later_commands_read_offline(
    toys: str, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(local.parent.parent)
    mismatch.split(f"{URL}/train", output_dir=tmp_path / "hub")
    mismatch.split(f"data/{local.name}", output_dir=tmp_path / "files")
    offline(monkeypatch)
    for name in ("train.csv", "val.csv", "test.csv"):
        of_hub = read_rows(tmp_path / "hub" / name)
        of_files = read_rows(tmp_path / "files" / name)
        assert of_files
        assert [row["text"] for row in of_hub] == [row["text"] for row in of_files]
        assert all(
            found["image_path"].endswith(f"/snapshots/{toys}/{row['image_path']}")
            for found, row in zip(of_hub, of_files, strict=True)
        )
    assert mismatch.audit(tmp_path / "hub" / "train.csv").ok


def test_a_command_says_the_commit_and_the_files(toys: str, tmp_path: Path) -> None:
    done = run(
        "predict", "--model", BUNDLE, "--csv", f"{URL}/train", "--output", tmp_path / "scores.csv"
    )
    assert done.exit_code == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if toys in line]
    assert line.startswith(f"{URL}/train: ")
    assert all(name in line for name in PARTS)
    assert len(read_rows(tmp_path / "scores.csv")) == 24


def test_only_rows_and_the_readme_are_downloaded(hub: Hub, toys: str) -> None:
    rows = hub_rows(f"{URL}/train")
    found = {
        path.relative_to(rows.folder).as_posix()
        for path in rows.folder.rglob("*")
        if path.is_file()
    }
    assert found == {*PARTS, "README.md"}
    assert rows.commit == toys
    assert not hub.asked("toys.py")


def test_nothing_is_asked_of_a_commit_twice_nor_offline(
    hub: Hub, toys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hub_rows(f"{URL}/train")
    hub.requests.clear()
    assert hub_rows(f"{URL}@{toys}/train").path == first.path
    offline(monkeypatch)
    assert hub_rows(f"{URL}/train").path == first.path
    assert hub.requests == []


def test_half_of_a_split_is_never_read(
    hub: Hub, toys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_rows(f"{URL}/{PARTS[0]}")
    offline(monkeypatch)
    assert hub_rows(f"{URL}/{PARTS[0]}").path.name == Path(PARTS[0]).name
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):
        hub_rows(f"{URL}/train")


def test_a_hub_that_fails_leaves_what_is_cached(
    hub: Hub, toys: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = hub_rows(f"{URL}/train")
    hub.failing = 503
    with caplog.at_level(logging.INFO, "mismatch"):
        assert hub_rows(f"{URL}/train").path == first.path
    assert (
        f"can't be reached; the cache's copy of '{NAME}' is used, of commit {toys}" in caplog.text
    )
    with pytest.raises(InputError, match="503"):
        hub_rows("hf://datasets/shop/other")


def test_a_branch_moves_and_a_commit_stays(hub: Hub, files: dict[str, bytes], toys: str) -> None:
    before = hub_rows(f"{URL}@{toys}/train")
    new = hub.add(NAME, {"train.parquet": files[PARTS[0]]})
    hub.add(NAME, {"test.csv": CSV}, revision="refs/convert/parquet")
    assert (hub_rows(URL).commit, hub_rows(URL).path.name) == (new, "train.parquet")
    assert hub_rows(f"{URL}@{toys}/train") == before
    for revision in ("refs/convert/parquet", "refs%2Fconvert%2Fparquet"):
        assert hub_rows(f"{URL}@{revision}/test").path.name == "test.csv"


def test_configs_of_the_readme_say_the_splits(hub: Hub) -> None:
    card = (
        b"---\nconfigs:\n- config_name: all\n  data_files:\n  - split: held\n    path: x/*\n---\n"
    )
    hub.add(NAME, {"README.md": card, "x/a.csv": CSV, "train.csv": CSV})
    assert hub_rows(URL).path.name == hub_rows(f"{URL}/held").path.name == "a.csv"
    assert hub_rows(f"{URL}/train.csv").path.name == "train.csv"


def test_configs_of_another_form_are_said_not_to_be_read(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add(NAME, {"README.md": b"---\nconfigs: [a]\n---\n", "train.csv": CSV, "a.png": b"x"})
    assert hub_rows(URL).path.name == "train.csv"
    assert "README.md have a form that is not read" in caplog.text
    assert "images are not downloaded" in caplog.text


def test_a_row_is_named_by_its_files_url(hub: Hub) -> None:
    hub.add(NAME, {PARTS[0]: parquet(0, 3), PARTS[1]: parquet(3, 3, labels=[0, 7, 1])})
    for act in (
        lambda: mismatch.evaluate(BUNDLE, URL),
        lambda: mismatch.tune_threshold(BUNDLE, URL),
    ):
        with pytest.raises(InputError) as error:
            act()
        assert str(error.value).startswith(f"{URL}/{PARTS[1]}:row 2: label '7'")
    report = mismatch.audit(URL)
    assert any(line.startswith(f"{URL}/{PARTS[1]}:row 2: label '7'") for line in report.lines())


def test_a_predictor_names_it_too(hub: Hub) -> None:
    hub.add(NAME, {"rows.csv": b"image_path,title_of_it\na.png,red\n"})
    with pytest.raises(InputError, match=rf"{URL}/rows.csv:1: column 'text' is missing"):
        list(mismatch.load(BUNDLE).predict_rows(URL))


def test_training_names_it_too(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    hub.add(NAME, {"train.parquet": parquet(0, 3, labels=[0, 7, 1])})
    with pytest.raises(InputError, match=rf"{URL}/train.parquet:row 2: label '7'"):
        mismatch.train(
            train_csv=URL, backbone="openclip", model_name="tiny", output_dir=tmp_path / "model"
        )


@pytest.mark.parametrize(
    ("url", "facts"),
    [
        (URL, ["several splits", f"{URL}/test or {URL}/train"]),
        (f"{URL}/held", ["'held'", f"{URL}/train"]),
        (f"{URL}@none/train", ["no such revision", f"/{NAME}/commits/main"]),
        (f"{URL}/toys.py", ["not read", "Parquet"]),
        ("hf://datasets/shop/none", ["has no 'datasets/shop/none'", "HF_TOKEN"]),
        ("hf://datasets/shop", ["hf://datasets/OWNER/NAME"]),
        ("hf://models/shop/toys", ["hf://datasets/OWNER/NAME"]),
        (f"{URL}/../x", ["..", "hf://datasets/OWNER/NAME"]),
        (f"{URL}@/train", ["hf://datasets/OWNER/NAME"]),
        ("hf://datasets/sh op/toys", ["hf://datasets/OWNER/NAME"]),
    ],
)
def test_what_is_not_to_be_had_is_one_line(toys: str, url: str, facts: list[str]) -> None:
    with pytest.raises(InputError) as error:
        hub_rows(url)
    assert "\n" not in str(error.value)
    for fact in facts:
        assert fact in str(error.value)


def test_private_and_gated_by_the_hubs_token(
    hub: Hub, toys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[NAME].gated = True
    with pytest.raises(InputError, match="gated: ask for access at"):
        hub_rows(f"{URL}/train")
    hub.repositories[NAME].private = True
    with pytest.raises(InputError, match="or it is private"):
        hub_rows(f"{URL}/train")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert hub_rows(f"{URL}/train").commit == toys


@pytest.mark.parametrize("name", ["../../train.csv", "a{b}/train.csv", "a\\train.csv"])
def test_names_that_leave_or_stand_for_others_are_refused(hub: Hub, name: str) -> None:
    hub.add(NAME, {name: CSV})
    with pytest.raises(InputError, match=r"whose name is not read|no files of rows"):
        hub_rows(URL)
    assert not hub.asked("resolve")


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'pip install "mismatch-clip\[datasets\]"'):
        hub_rows(URL)
