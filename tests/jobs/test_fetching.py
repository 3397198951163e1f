"""mismatch.jobs.fetching: every job that reads rows reads images by their URLs, if asked to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.errors import InputError
from mismatch.jobs.fetching import FetchOptions, fetched_images
from mismatch.jobs.predict_pair import predict_pair
from mismatch.runtime import image_fetcher
from mismatch.runtime.predictor import Predictor
from tests.support import commands
from tests.support.paths import BUNDLE
from tests.support.rows import read_rows, write_rows
from tests.support.web_host import LOOPBACK, WebHost, web_host

COLOURS = ("red", "green", "blue")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WebHost]:
    monkeypatch.setattr(image_fetcher, "PAUSES", (0.01, 0.02))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with web_host() as made:
        yield made


@pytest.fixture
def fetching(tmp_path: Path) -> dict[str, Any]:
    return {
        "fetch_images": True,
        "fetch_cache": tmp_path / "kept",
        "fetch_networks": LOOPBACK,
    }


@pytest.fixture
def rows(host: WebHost, tmp_path: Path) -> Path:
    """Nine rows with labels, of three images."""
    table = [
        (host.url(f"{colour}.png"), f"a {text} shirt", int(colour == text))
        for colour in COLOURS
        for text in COLOURS
    ]
    return write_rows(tmp_path / "rows.csv", [("image_path", "text", "label"), *table])


@pytest.fixture
def model(colour_engine: Any) -> Predictor:
    return Predictor(colour_engine())


def statuses(path: Path) -> list[str]:
    return [row["status"] for row in read_rows(path)]


@pytest.mark.parametrize("isolated", [False, True])
def test_predict(
    model: Predictor,
    rows: Path,
    host: WebHost,
    tmp_path: Path,
    fetching: dict[str, Any],
    isolated: bool,
) -> None:
    with rows.open("a") as file:
        file.write(f"{host.url('status/404/a.png?key=secret')},red,1\nred.png,red,1\n")
    result = mismatch.predict_file(
        model, rows, tmp_path / "out.csv", isolate_decoding=isolated, **fetching
    )
    assert (result.scored, result.failed) == (9, 2)
    assert host.requests["/red.png"] == 1
    written = read_rows(tmp_path / "out.csv")
    assert [row["prediction"] for row in written[:3]] == ["match", "mismatch", "mismatch"]
    assert written[0]["image_path"] == host.url("red.png")
    assert "host answered 404" in written[9]["status"]
    assert "secret" not in written[9]["status"]
    assert "not found" in written[10]["status"]
    again = mismatch.predict_file(model, rows, tmp_path / "again.csv", **fetching)
    assert again.scored == 9
    assert host.requests["/red.png"] == 1


def test_without_it_nothing_is_fetched(
    model: Predictor, rows: Path, host: WebHost, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="not one of its 9 rows"):
        mismatch.predict_file(model, rows, tmp_path / "out.csv")
    for status in statuses(tmp_path / "out.csv"):
        assert "`fetch_images` says so; turn that on, or run mismatch fetch" in status
    assert not host.requests
    assert not (tmp_path / "home").exists()


def test_a_run_is_continued_with_what_the_cache_has(
    model: Predictor, rows: Path, host: WebHost, tmp_path: Path, fetching: dict[str, Any]
) -> None:
    output = tmp_path / "out.csv"
    mismatch.predict_file(model, rows, output, **fetching)
    whole = output.read_bytes()
    mismatch.predict_file(model, rows, output, resume=True, **fetching)
    assert output.read_bytes() == whole
    assert set(host.requests.values()) == {1}


def test_a_shard_fetches_its_own_rows_alone(
    model: Predictor, rows: Path, host: WebHost, tmp_path: Path, fetching: dict[str, Any]
) -> None:
    mismatch.predict_file(model, rows, tmp_path / "out.csv", shard="1/9", **fetching)
    assert dict(host.requests) == {"/red.png": 1}


def test_an_evaluation_an_audit_and_a_split(
    model: Predictor, rows: Path, host: WebHost, tmp_path: Path, fetching: dict[str, Any]
) -> None:
    assert mismatch.evaluate(model, rows, **fetching).metrics["auroc"] == 1.0
    pytest.importorskip("imagehash")
    report = mismatch.audit(rows, rows, report=tmp_path / "report.html", **fetching)
    assert report.ok, report.lines()
    assert len(report.files[0].images) == 3
    assert (tmp_path / "report.html").is_file()
    mismatch.split(rows, output_dir=tmp_path / "split", fractions=(0.5, 0.5), **fetching)
    parts = [read_rows(tmp_path / "split" / f"{name}.csv") for name in ("train", "val")]
    assert sum(map(len, parts)) == 9
    assert set(host.requests.values()) == {1}


def test_an_audit_names_the_row_of_each_failure(
    rows: Path, host: WebHost, fetching: dict[str, Any]
) -> None:
    with rows.open("a") as file:
        file.write(f"{host.url('page')},red,1\n")
    report = mismatch.audit(rows, **fetching)
    assert not report.ok
    assert any("rows.csv:11" in line and "a page of HTML" in line for line in report.lines())


def test_explanations_and_one_pair(
    model: Predictor, rows: Path, host: WebHost, fetching: dict[str, Any]
) -> None:
    table = [(row["image_path"], row["text"]) for row in read_rows(rows)]
    write_rows(rows, [("image_path", "text"), *table])
    worst = mismatch.explain_rows(model, rows, worst=1, no_heat_map=True, **fetching)
    assert len(worst.explanations) == 1
    pair = predict_pair(model, host.url("red.png"), "a red shirt", **fetching)
    assert pair.prediction.prediction == "match"


def test_commands(rows: Path, host: WebHost, tmp_path: Path) -> None:
    networks = [part for network in LOOPBACK for part in ("--fetch-network", network)]
    options = ["--fetch-images", *networks]
    output = tmp_path / "scores.csv"
    result = commands.run("predict", "--model", BUNDLE, "--csv", rows, "--output", output, *options)
    assert result.exit_code == 0, result.stderr
    assert set(statuses(output)) == {"ok"}
    assert (tmp_path / "home" / "mismatch" / "images" / "images").is_dir()
    pair = ["predict", "--model", BUNDLE, "--image", host.url("red.png"), "--text", "red"]
    assert commands.run(*pair, *options).exit_code == 0
    refused = commands.run(*pair)
    assert (refused.exit_code, "--fetch-images says so" in refused.stderr) == (2, True)
    assert host.requests["/red.png"] == 1


def test_options_go_together() -> None:
    options: Any
    for options in ({"fetch_cache": "kept"}, {"fetch_networks": ["10.0.0.0/8"]}):
        with pytest.raises(InputError, match="goes with `fetch_images`"):
            FetchOptions(**options)
    with pytest.raises(InputError, match="go with `rows`"):
        mismatch.predict_file(BUNDLE, None, "out.csv", images="a", fetch_images=True)
    with (
        pytest.raises(InputError, match="'here' is no network"),
        fetched_images(FetchOptions(True, None, ["here"])),
    ):
        pass


def test_train(rows: Path, host: WebHost, tmp_path: Path, fetching: dict[str, Any]) -> None:
    result = mismatch.train(
        train_csv=str(rows),
        val_csv=str(rows),
        model_name="tiny",
        output_dir=str(tmp_path / "out"),
        epochs=1,
        batch_size=4,
        num_workers=1,
        device="cpu",
        **fetching,
    )
    assert len(result.history["train_losses"]) == 1
    assert set(host.requests.values()) == {1}
