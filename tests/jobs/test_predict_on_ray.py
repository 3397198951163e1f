"""mismatch.jobs.predict_on_ray: the rows and scores of the local engine, also where a process is killed or
the run is cut short; from and to stores.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mismatch.data.columns import Columns
from mismatch.io.reading import read_json
from mismatch.io.remote import Remote
from mismatch.jobs import predict_on_ray
from mismatch.jobs.options import ModelSettings
from mismatch.jobs.predict_on_ray import ActorJob, BlockScorer
from mismatch.jobs.prediction_run import PredictSettings
from mismatch.runtime.decoding import DecodingPool
from tests.support import commands
from tests.support.processes import command_line, finished, started

LONG = 300  # seconds that a run on several actors may take

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (128, 128, 128)}


@pytest.fixture(scope="session")
def installed_ray() -> None:
    """Asked for first, so that nothing else is made where it is missing."""
    pytest.importorskip("ray", reason='ray is not installed; pip install "mismatch-clip[ray]"')


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows.csv: 1,200 rows of 96 images, of which every 50th row can't be scored."""
    folder = tmp_path_factory.mktemp("catalogue")
    random = np.random.default_rng(0)
    for number in range(96):
        Image.fromarray(random.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(
            folder / f"{number}.png"
        )
    lines = ["image_path,text,sku"]
    for number in range(1200):
        image = "gone.png" if number % 50 == 7 else f"{number % 96}.png"
        lines.append(f'{image},"{list(COLOURS)[number % 4]} shirt, {number % 31}",{number}')
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    return folder


def command(bundle: Path, *options: str, rows: str = "rows.csv") -> list[str]:
    common = ("--model", bundle, "--csv", rows, "--keep-columns", "--threads", 1)
    return command_line("predict", *common, *options)


def run(folder: Path, bundle: Path, *options: str, rows: str = "rows.csv") -> str:
    done = finished(command(bundle, *options, rows=rows), cwd=folder, timeout=LONG)
    assert done.returncode == 0, done.stderr
    return done.stderr


def table(path: Path | Remote) -> list[dict[str, Any]]:
    """The rows of a Parquet file, or of all parts in the order of their names."""
    parquet = pytest.importorskip("pyarrow.parquet")
    files: list[Any]
    if isinstance(path, Remote):
        files = [
            (path / name).open() for name in sorted(path.listing()) if name.startswith("part-")
        ]
    else:
        files = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
    return [row for file in files for row in parquet.ParquetFile(file).read().to_pylist()]


def assert_same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """All columns equal, scores to 1e-6."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert {**one, "similarity_score": None} == {**other, "similarity_score": None}
        assert one["similarity_score"] == (
            other["similarity_score"] and pytest.approx(other["similarity_score"], abs=1e-6)
        )


def records(folder: Path | Remote) -> list[dict[str, Any]]:
    if isinstance(folder, Remote):
        progress = folder / "_progress"
        found = progress.read_all(
            sorted(name for name in progress.listing() if name.endswith(".jsonl"))
        )
        lines = b"".join(found).decode().split("\n")[1:-1]
    else:
        path = folder / "progress.jsonl"
        lines = path.read_text().split("\n")[1:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def first_part(process: subprocess.Popen[str], folder: Path | Remote) -> dict[str, Any]:
    """Wait for the first part."""
    end = time.monotonic() + 240
    while not (found := records(folder)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    return found[0]


def test_four_workers_one_of_them_killed_give_the_rows_of_the_local_engine(
    installed_ray: None, catalogue: Path, tiny_bundles: dict[str, Path]
) -> None:
    bundle = tiny_bundles["hf-clip"]
    run(catalogue, bundle, "--output", "local.parquet")
    options = ("--engine", "ray", "--actors", "4", "--block-rows", "20", "--output", "parts")
    with started(command(bundle, *options), cwd=catalogue) as process:
        killed = first_part(process, catalogue / "parts")["worker"]
        os.kill(int(killed.rpartition(":")[2]), signal.SIGKILL)
        _, said = process.communicate(timeout=LONG)
    assert process.returncode == 0, said
    assert "1,176 rows scored → parts, 60 parts; 24 could not be" in said
    manifest = json.loads((catalogue / "parts" / "manifest.json").read_text())
    assert (manifest["rows"], manifest["failed"], len(manifest["parts"])) == (1200, 24, 60)
    assert [part["first_row"] for part in manifest["parts"]] == list(range(1, 1200, 20))
    workers = [part["worker"] for part in manifest["parts"]]
    assert len(set(workers)) == 5  # four, and the one that took the killed one's place
    assert_same(table(catalogue / "parts"), table(catalogue / "local.parquet"))
    assert sorted(os.listdir(catalogue / "parts")) == [
        "manifest.json",
        *(f"part-{number:05}.parquet" for number in range(60)),
    ]


@pytest.mark.parametrize("isolated", [False, True])
def test_an_actor_decodes_elsewhere_where_that_is_asked_for(
    tmp_path: Path, tiny_bundles: dict[str, Path], isolated: bool
) -> None:
    settings = PredictSettings(
        model=ModelSettings(provider="cpu", threads=1, num_workers=1),
        threshold=None,
        review_band=None,
        long_text=None,
        cache=None,
        shard=None,
        keep_columns=False,
        resume=False,
        isolate_decoding=isolated,
    )
    model = str(tiny_bundles["hf-clip"])
    scorer = BlockScorer(ActorJob(model, settings, "", Columns(), {}, str(tmp_path), ""))
    assert isinstance(scorer._predictor.pipeline.preprocess._decoder, DecodingPool) == isolated


def test_a_run_that_was_cut_short_goes_on_and_keeps_its_parts(
    installed_ray: None, catalogue: Path, tiny_bundles: dict[str, Path]
) -> None:
    bundle, folder = tiny_bundles["hf-clip"], catalogue / "resumed"
    options = ("--engine", "ray", "--actors", "2", "--block-rows", "40", "--output", "resumed")
    with started(command(bundle, *options), cwd=catalogue) as process:
        first_part(process, folder)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    kept = records(folder)
    assert 0 < len(kept) < 30
    assert "rows are kept in resumed; continue with --resume" in said
    times = {record["part"]: (folder / record["part"]).stat().st_mtime_ns for record in kept}
    (folder / "part-00029.parquet").write_bytes(b"half")
    run(catalogue, bundle, *options, "--resume")
    assert {name: (folder / name).stat().st_mtime_ns for name in times} == times
    run(catalogue, bundle, "--output", "local2.parquet")
    assert_same(table(folder), table(catalogue / "local2.parquet"))
    other = finished(command(bundle, *options, "--resume", "--threshold", "0.9"), cwd=catalogue)
    assert "is of another run, which differs in --threshold" in other.stderr
    assert other.returncode == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--engine", "ray", "--output", "scores.csv"), "--engine ray writes a folder of parts"),
        (("--engine", "ray"), "--engine ray writes a folder of parts"),
        (("--engine", "ray", "--output", "."), "--output . holds other things"),
        (
            ("--engine", "ray", "--output", "new", "--top", "3"),
            "--sort, --top and --safe-csv go with --engine local",
        ),
        (("--actors", "2"), "--actors goes with --engine ray"),
        (
            ("--block-rows", "9", "--ray-address", "auto"),
            "--ray-address, --block-rows go with --engine ray",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    catalogue: Path, options: tuple[str, ...], said: str
) -> None:
    done = finished(command(Path("none"), *options), cwd=catalogue)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())


class Here:
    """What stands for a cluster where ray is missing: one actor, in this process."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.tool, self.blocks = make(), 0

    def ask(self, method: str, *values: Any) -> Any:
        return getattr(self.tool, method)(*values)

    def each(self, method: str, blocks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        for block in blocks:
            yield self.ask(method, *block)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are scored in this process."""

    @contextmanager
    def actors(make: Callable[[], Any], **_: Any) -> Iterator[Here]:
        yield Here(make)

    monkeypatch.setattr(predict_on_ray, "actors", actors)


def upload(folder: Path, store: Remote) -> None:
    """Images below images/, some of which rows name by their URL, and the rows in each format."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for path in folder.glob("*.png"):
        (store / "images" / path.name).write(path.read_bytes())
    header, *lines = [
        line.replace('"', "").split(",") for line in (folder / "rows.csv").read_text().splitlines()
    ]
    rows = [(image, f"{first},{second}", sku) for image, first, second, sku in lines]
    columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
    (store / "rows.csv").write((folder / "rows.csv").read_bytes())
    (store / "rows.tsv").write(
        "".join("\t".join(row) + "\n" for row in [tuple(header), *rows]).encode()
    )
    (store / "rows.jsonl").write(
        "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows).encode()
    )
    with (store / "rows.parquet").writing() as file:
        parquet.write_table(arrow.table(columns), file, row_group_size=100)
    columns["image_path"] = [f"{store}/images/{image}" for image in columns["image_path"]]
    with (store / "urls.parquet").writing() as file:
        parquet.write_table(arrow.table(columns), file, row_group_size=100)


def invoke(*options: object) -> str:
    result = commands.run("predict", "--keep-columns", "--threads", "1", *options)
    assert result.exit_code == 0, result.output
    return result.stderr


@pytest.mark.parametrize(
    "name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.parquet", "urls.parquet"]
)
def test_rows_images_and_parts_in_a_store(
    here: None,
    store: Remote,
    catalogue: Path,
    tiny_bundles: dict[str, Path],
    tmp_path: Path,
    name: str,
) -> None:
    bundle = tiny_bundles["hf-clip"]
    upload(catalogue, store)
    invoke(
        "--model",
        bundle,
        "--csv",
        catalogue / "rows.csv",
        "--image-base-path",
        catalogue,
        "--output",
        tmp_path / "local.parquet",
    )
    said = invoke(
        *("--model", bundle, "--csv", f"{store}/{name}", "--image-base-path", f"{store}/images"),
        *("--engine", "ray", "--block-rows", "200", "--output", f"{store}/scored"),
    )
    assert f"1,176 rows scored → {store}/scored, 6 parts; 24 could not be" in said
    assert sorted((store / "scored").listing()) == [
        "manifest.json",
        *(f"part-{number:05}.parquet" for number in range(6)),
    ]
    assert read_json(store / "scored" / "manifest.json")["input"] == f"{store}/{name}"
    found, wanted = table(store / "scored"), table(tmp_path / "local.parquet")
    assert (
        found[7]["status"]
        == f"image '{store}/images/gone.png' not found; check its path and the folder that it is relative to"
    )
    names = ("image_path", "status")
    assert [row["image_path"].rpartition("/")[2] for row in found] == [
        row["image_path"] for row in wanted
    ]
    assert_same(
        [{**row, **dict.fromkeys(names)} for row in found],
        [{**row, **dict.fromkeys(names)} for row in wanted],
    )


def test_the_local_engine_reads_from_a_store_too(
    store: Remote, catalogue: Path, tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    bundle = tiny_bundles["hf-clip"]
    upload(catalogue, store)
    invoke(
        "--model",
        bundle,
        "--csv",
        catalogue / "rows.csv",
        "--image-base-path",
        catalogue,
        "--output",
        tmp_path / "local.csv",
    )
    invoke(
        "--model",
        bundle,
        "--csv",
        store / "rows.parquet",
        "--image-base-path",
        store / "images",
        "--output",
        tmp_path / "fetched.csv",
    )
    assert (tmp_path / "fetched.csv").read_text().replace(f"{store}/images", str(catalogue)) == (
        tmp_path / "local.csv"
    ).read_text()


def test_a_run_to_a_store_goes_on_where_it_was(
    here: None,
    store: Remote,
    catalogue: Path,
    tiny_bundles: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload(catalogue, store)
    common = (
        "--model",
        tiny_bundles["hf-clip"],
        "--csv",
        store / "rows.parquet",
        "--image-base-path",
        store / "images",
        "--engine",
        "ray",
    )
    options = (*common, "--block-rows", "200", "--output", store / "scored")
    score = BlockScorer.score

    def some(self: BlockScorer, number: int, rows: Any) -> Any:
        if number == 3:
            raise KeyboardInterrupt
        return score(self, number, rows)

    with monkeypatch.context() as patch:
        patch.setattr(BlockScorer, "score", some)
        result = commands.run("predict", "--keep-columns", "--threads", "1", *options)
    assert f"600 rows are kept in {store}/scored; continue with --resume" in result.stderr
    assert [record["number"] for record in records(store / "scored")] == [0, 1, 2]
    before = {
        name: (store / "scored" / name).version()
        for name in (store / "scored").listing()
        if name.startswith("part-")
    }
    invoke(*options, "--resume")
    assert len(before) == 3
    assert {name: (store / "scored" / name).version() for name in before} == before
    assert [row["sku"] for row in table(store / "scored")] == [
        str(number) for number in range(1200)
    ]
    (store / "rows.parquet").write((store / "urls.parquet").read(0, 2**24))
    result = commands.run("predict", "--keep-columns", "--threads", "1", *options, "--resume")
    assert f"{store}/scored is of another run, which differs in the rows" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--csv", "{store}/gone.csv"), "{store}/gone.csv: there is no such object"),
        (("--csv", "https://shop.example/rows.csv"), "https:// is no store that mismatch reads"),
        (
            ("--csv", "{store}/rows.csv", "--output", "{store}/out.csv"),
            "--output {store}/out.csv is a URL, and one file is written here; add --engine ray",
        ),
        (
            ("--csv", "{store}/rows.csv", "--engine", "ray", "--output", "{store}/out.csv"),
            "--engine ray writes a folder of parts",
        ),
        (
            ("--csv", "{store}/rows.csv", "--engine", "ray", "--output", "{store}/images"),
            "holds other things (a.png); name a new folder",
        ),
        (
            ("--csv", "{store}/rows.csv", "--engine", "ray", "--output", "{store}/p[1]"),
            "has one of * ? [ ] in it",
        ),
    ],
)
def test_urls_that_can_not_be_used_are_one_line(
    store: Remote, options: tuple[str, ...], said: str
) -> None:
    pytest.importorskip("pyarrow")
    (store / "rows.csv").write(b"image_path,text\na.png,red\n")
    (store / "images" / "a.png").write(b"")
    result = commands.run(
        "predict", "--model", "none", *(option.format(store=store) for option in options)
    )
    assert result.exit_code == 2
    assert said.format(store=store) in " ".join(result.stderr.split())
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_row_fetches_nothing_that_the_operator_has_not_asked_for(
    store: Remote, catalogue: Path, tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    (store / "images" / "0.png").write((catalogue / "0.png").read_bytes())
    (store / "secret" / "0.png").write((catalogue / "0.png").read_bytes())
    image = catalogue / "0.png"
    names = [
        f"{store}/secret/0.png",
        "../secret/0.png",
        f"{store}/images/0.png",
        "http://127.0.0.1:9/0.png",
        f"file://{image}",
        str(image),
    ]
    (tmp_path / "rows.csv").write_text(
        "image_path,text\n" + "".join(f"{name},red\n" for name in names)
    )
    fetched: dict[tuple[str, ...], list[str]] = {}
    for base in (
        (),
        ("--image-base-path", str(catalogue)),
        ("--image-base-path", f"{store}/images"),
    ):
        for outside in ((), ("--allow-outside-images",)):
            invoke(
                "--model",
                tiny_bundles["hf-clip"],
                "--csv",
                tmp_path / "rows.csv",
                *base,
                *outside,
                "--output",
                tmp_path / "out.jsonl",
            )
            rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
            fetched[(*base[1:], *outside)] = [
                row["image_path"] for row in rows if row["status"] == "ok"
            ]
    local = [str(image)]
    assert fetched == {
        (): local,
        ("--allow-outside-images",): local,
        (str(catalogue),): local,
        (str(catalogue), "--allow-outside-images"): local,
        (f"{store}/images",): names[2:3],
        (f"{store}/images", "--allow-outside-images"): names[:3],
    }


def test_if_no_image_is_there_the_rows_say_so(
    here: None, store: Remote, tiny_bundles: dict[str, Path]
) -> None:
    (store / "rows.csv").write(b"image_path,text\na.png,red\nb.png,blue\n")
    options = (
        "--model",
        tiny_bundles["hf-clip"],
        "--csv",
        store / "rows.csv",
        "--image-base-path",
        store / "images",
        "--engine",
        "ray",
    )
    result = commands.run("predict", *options, "--output", f"{store}/scored")
    assert result.exit_code == 2
    assert (
        f"{store}/rows.csv: not one of its 2 rows could be scored; their status says why"
        in result.stderr
    )
    assert all("not found" in row["status"] for row in table(store / "scored"))


def from_store(store: Remote) -> tuple[str, ...]:
    return (
        "--image-base-path",
        f"{store}/images",
        "--engine",
        "ray",
        "--output",
        f"{store}/scored",
    )


def test_all_in_s3_and_an_actor_killed(
    installed_ray: None, s3: Remote, catalogue: Path, tiny_bundles: dict[str, Path]
) -> None:
    bundle, store = tiny_bundles["hf-clip"], s3 / "killed"
    upload(catalogue, store)
    run(catalogue, bundle, "--output", "local3.parquet")
    options = (*from_store(store), "--actors", "3", "--block-rows", "20")
    line = command(bundle, *options, rows=f"{store}/rows.parquet")
    with started(line, cwd=catalogue) as process:
        killed = first_part(process, store / "scored")["worker"]
        os.kill(int(killed.rpartition(":")[2]), signal.SIGKILL)
        _, said = process.communicate(timeout=LONG)
    assert process.returncode == 0, said
    manifest = read_json(store / "scored" / "manifest.json")
    assert (manifest["rows"], manifest["failed"], len(manifest["parts"])) == (1200, 24, 60)
    assert len({part["worker"] for part in manifest["parts"]}) >= 3
    found, wanted = table(store / "scored"), table(catalogue / "local3.parquet")
    assert_same(
        [{**row, "status": None} for row in found], [{**row, "status": None} for row in wanted]
    )
    assert [row["status"] == "ok" for row in found] == [row["status"] == "ok" for row in wanted]


def test_all_in_s3_and_the_driver_killed(
    installed_ray: None, s3: Remote, catalogue: Path, tiny_bundles: dict[str, Path]
) -> None:
    bundle, store = tiny_bundles["hf-clip"], s3 / "resumed"
    upload(catalogue, store)
    options = (*from_store(store), "--actors", "2", "--block-rows", "40")
    line = command(bundle, *options, rows=f"{store}/rows.csv")
    with started(line, cwd=catalogue) as process:
        first_part(process, store / "scored")
        process.kill()
        process.communicate(timeout=60)
    kept = {record["part"] for record in records(store / "scored")}
    assert 0 < len(kept) < 30
    before = {name: (store / "scored" / name).version() for name in kept}
    refused = finished(line, cwd=catalogue)
    assert (
        "writes there; wait for it or, if it was killed, continue with --resume" in refused.stderr
    )
    run(catalogue, bundle, *options, "--resume", rows=f"{store}/rows.csv")
    assert {name: (store / "scored" / name).version() for name in kept} == before
    assert [row["sku"] for row in table(store / "scored")] == [
        str(number) for number in range(1200)
    ]
    assert len(read_json(store / "scored" / "manifest.json")["parts"]) == 30
