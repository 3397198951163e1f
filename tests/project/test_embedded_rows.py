"""Rows with images in them: every command works on every format, and a picture has the score that
it has as a file, to the last bit.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import mismatch
from mismatch.backbones import registry
from mismatch.training.folder import output
from tests.support.backbones import ToyBackbone, toy_family
from tests.support.commands import run
from tests.support.embedded import FORMATS, Drawn, as_files, drawn_rows, write_tar
from tests.support.paths import BUNDLE
from tests.support.processes import finished
from tests.support.rows import read_rows

pytest.importorskip("pyarrow")

ROWS = drawn_rows(36)
Write = Callable[[Path, Sequence[Drawn]], Path]


class Chain:
    """What the commands make of rows, each of what the one before it has made."""

    def __init__(self, folder: Path, write: Write) -> None:
        folder.mkdir()
        self.folder = folder
        self.base = folder
        self.path = write(folder, ROWS)
        self.options: dict[str, Any] = {"image_base_path": folder}

    def audit(self) -> Any:
        return mismatch.audit(self.path, report=self.folder / "audit.html", **self.options)

    def split(self) -> list[list[dict[str, str]]]:
        parts = self.folder / "parts"
        mismatch.split(self.path, output_dir=parts, fractions=(0.6, 0.4), **self.options)
        return [read_rows(parts / name) for name in ("train.csv", "val.csv")]

    def labelled(self) -> list[dict[str, str]]:
        output = self.folder / "labelled.csv"
        mismatch.make_negatives(self.path, output=output, **self.options)
        return read_rows(output)

    def train(self) -> None:
        mismatch.train(
            train_csv=str(self.folder / "labelled.csv"),
            val_fraction=0.3,
            backbone="toy",
            batch_size=16,
            epochs=2,
            device="cpu",
            output_dir=str(self.folder / "trained"),
            image_base_path=str(self.folder),
        )

    def evaluate(self) -> Any:
        return mismatch.evaluate(
            self.folder / "trained" / "best_model",
            self.folder / "labelled.csv",
            threshold=0.999,  # so that matches are wrong, and have their pictures in the report
            report=self.folder / "evaluation",
            **self.options,
        )

    def export(self) -> None:
        mismatch.export_onnx(
            self.folder / "trained" / "best_model",
            self.folder / "bundle",
            verify_rows=self.folder / "labelled.csv",
            **self.options,
        )

    def scores(self, path: Path) -> list[str]:
        output = self.folder / "scores.csv"
        mismatch.predict_file(
            self.folder / "bundle", path, output, cache=self.folder / "cache", **self.options
        )
        return [row["similarity_score"] for row in read_rows(output)]

    def label_errors(self) -> Any:
        return mismatch.audit_labels(
            self.folder / "trained" / "best_model",
            self.folder / "labelled.csv",
            report=self.folder / "labels.html",
            top=3,
            folds=2,
            repeats=1,
            **self.options,
        )

    def explain(self) -> Any:
        return mismatch.explain_rows(
            self.folder / "bundle",
            self.folder / "labelled.csv",
            worst=2,
            output=self.folder / "explained",
            **self.options,
        )


def everything(folder: Path, write: Write) -> dict[str, Any]:
    """Return what must be the same for the same pictures, in any format."""
    chain = Chain(folder, write)
    report = chain.audit()
    parts = chain.split()
    labelled = chain.labelled()
    chain.train()
    evaluation = chain.evaluate()
    chain.export()
    label_audit = chain.label_errors()
    pages = [folder / "evaluation" / "report.html", folder / "labels.html"]
    return {
        "problems": report.files[0].problems,
        "images": len({row["image_path"] for part in parts for row in part}),
        "rows": sorted(row["text"] for part in parts for row in part),
        "labelled": [(row["text"], row["label"], row["kind"]) for row in labelled],
        "metrics": evaluation.metrics,
        "label errors": [(finding.line, finding.text) for finding in label_audit.findings],
        "pictures in pages": [page.read_text("utf-8").count("data:image/jpeg") for page in pages],
        "scores": chain.scores(chain.path),
        "scores again, by name": chain.scores(folder / "labelled.csv"),
        "explained": [
            (item.explanation.text, item.explanation.similarity_score, item.explanation.words)
            for item in chain.explain().explanations
        ],
    }


@pytest.fixture(autouse=True, scope="module")
def toy() -> Iterator[None]:
    """A family whose model is drawn, trained and traced in a moment."""

    def load(model_id: str) -> ToyBackbone:
        torch.manual_seed(0)
        return ToyBackbone(model_id=model_id)

    family = registry.Registry({"toy": toy_family("toy", load)}, ())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_installed", lambda: family)
        patch.setattr(output, "curves_png", lambda stats: b"")
        yield


@pytest.fixture(scope="module")
def of_files(module_folder: Path) -> dict[str, Any]:
    return everything(module_folder / "files", as_files)


@pytest.mark.parametrize("name", FORMATS)
def test_every_command_gives_what_it_gives_of_files(
    name: str, module_folder: Path, of_files: dict[str, Any]
) -> None:
    assert of_files["images"] == len(ROWS)
    assert min(of_files["pictures in pages"]) > 0
    assert everything(module_folder / name, FORMATS[name]) == of_files


KILLED = """
import os, signal, sys
from mismatch.cli import main
from mismatch.runtime import open_image, pipeline

pipeline.WINDOW = 8
real = open_image.open_member
opened = 0

def open_member(path):
    global opened
    opened += 1
    if opened == 22:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(path)

open_image.open_member = open_member
main(sys.argv[1:])
"""


@pytest.mark.parametrize("name", ["parquet", "dataset", "webdataset shards"])
def test_a_killed_run_goes_on_to_the_same_bytes(name: str, tmp_path: Path) -> None:
    path = FORMATS[name](tmp_path, ROWS)
    options = ("--model", BUNDLE, "--csv", path, "--num-workers", 1)
    output = tmp_path / "out.csv"
    killed = finished(
        [sys.executable, "-c", KILLED, "predict", *options, "--output", output, "--resume"]
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = (tmp_path / "out.csv.part").read_text().count("\n") - 1
    assert 0 < done < len(ROWS)
    assert run("predict", *options, "--output", output, "--resume").exit_code == 0
    assert run("predict", *options, "--output", tmp_path / "straight.csv").exit_code == 0
    assert output.read_bytes() == (tmp_path / "straight.csv").read_bytes()


def test_rows_that_changed_are_not_gone_on_with(tmp_path: Path) -> None:
    path = FORMATS["webdataset shards"](tmp_path, ROWS)
    options = ("--model", BUNDLE, "--csv", path, "--output", tmp_path / "out.csv", "--resume")
    finished([sys.executable, "-c", KILLED, "predict", *options])
    write_tar(tmp_path / "shards" / "00001.tar", [("1.jpg", ROWS[0].image), ("1.txt", b"a")])
    result = run("predict", *options)
    assert (result.exit_code, "differs in the rows" in result.stderr) == (2, True)


def test_shards_of_a_run_are_the_whole(tmp_path: Path) -> None:
    path = FORMATS["webdataset shards"](tmp_path, ROWS)
    whole = []
    for number in (1, 2):
        output = tmp_path / f"{number}.csv"
        mismatch.predict_file(BUNDLE, path, output, shard=f"{number}/2")
        whole += read_rows(output)
    mismatch.predict_file(BUNDLE, path, tmp_path / "out.csv")
    by_image = {row["image_path"]: row for row in whole}
    assert [by_image[row["image_path"]] for row in read_rows(tmp_path / "out.csv")] == read_rows(
        tmp_path / "out.csv"
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_dataset_in_memory_has_the_same_scores(name: str, tmp_path: Path) -> None:
    memory = [{"image": row.image, "text": row.text} for row in ROWS]
    mismatch.predict_file(BUNDLE, memory, tmp_path / "memory.csv")
    mismatch.predict_file(BUNDLE, FORMATS[name](tmp_path, ROWS), tmp_path / "out.csv")
    scores = [
        [row["similarity_score"] for row in read_rows(tmp_path / file)]
        for file in ("memory.csv", "out.csv")
    ]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("name", ["parquet", "webdataset"])
def test_isolated_decoding_gives_the_same(name: str, tmp_path: Path) -> None:
    path = FORMATS[name](tmp_path, ROWS)
    for isolated in (False, True):
        output = tmp_path / f"{isolated}.csv"
        mismatch.predict_file(BUNDLE, path, output, isolate_decoding=isolated)
    assert (tmp_path / "True.csv").read_bytes() == (tmp_path / "False.csv").read_bytes()
