"""Fixtures that every test file may use."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import uuid
import venv
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from mismatch.io.remote import Remote
from mismatch.specs import ImageSpec, ScoreSpec, TextSpec
from tests.support.remembered import remembering
from tests.support.training_lines import training_lines

# in the background of a shell, where children would ignore Ctrl-C as well
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# and under nohup this one is
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


ROOT = Path(__file__).resolve().parents[1]
WHOLE = os.environ.get("WHOLE") == "1"  # all rows and all moments, where a part is enough each day
# what takes longest, first: the others fill up what is left of two processes
LONGEST = (
    "test_quickstart",
    "test_lit",
    "test_fashion",
    "test_resume",
    "test_fsdp",
    "test_benchmarks",
    "test_readme",
    "test_processes",
    "test_openclip_kinds",
    "test_hf_clip_kinds",
    "test_predictor",
    "test_checkpoint",
    "test_torch_free",
    "test_page_in_chromium",
    "test_guard",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first, then those with slow tests, so that at the end no process waits."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def turn(item: pytest.Item) -> tuple[int, bool]:
        place = LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST)
        return place, item.path not in slow

    items.sort(key=turn)


Make = Callable[[Path], object]


# files that export, but test something else than how graphs are traced
EXPORTING = (
    *("calibrate", "export_onnx", "fashion", "fp16", "gate", "int8", "onnx", "predictor"),
    *("quickstart", "torch_free", "triton", "weights", "benchmark", "tune_threshold"),
)


@pytest.fixture(autouse=True, scope="module")
def graphs_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """The same tower is traced once, in files that test something else."""
    stem = Path(request.node.path).stem.removeprefix("test_")
    with remembering() if stem in EXPORTING else nullcontext():
        yield


@pytest.fixture(scope="module")
def module_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A folder for what a file's tests share, removed after the last of them: checkpoints of all
    files together would fill a small disk.
    """
    folder = tmp_path_factory.mktemp(Path(request.node.path).stem)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Make], Path]:
    """Make a folder in one of the run's processes; the others wait for it and use it too.
    Nothing may be changed in it.
    """
    base = tmp_path_factory.getbasetemp()
    place = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name: str, make: Make) -> Path:
        folder = place / f"shared-{name}"
        done = place / f"shared-{name}.done"
        with FileLock(place / f"shared-{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


MadeOnce = Callable[[str, Make], Path]


def first_photos(source: Path, target: Path, count: int) -> Path:
    """The rows of a CSV's first `count` photos; all of them in a whole run."""
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    photos = list(dict.fromkeys(row["image_path"] for row in rows))
    chosen = set(photos if WHOLE else photos[:count])
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if row["image_path"] in chosen)
    return target


WORDS = ["<pad>", "<s>", "</s>", "<unk>", "red", "green", "blue", "grey", "shirt", "shoe", "bag"]


@pytest.fixture(scope="session")
def fashion() -> Path:
    """Real product photos and titles, kept next to the checkout and not part of the project."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "fashion"
    if not (folder / "test.csv").is_file():
        pytest.skip(f"the fashion photos are not at {folder}")
    return folder


def word_tokenizer() -> str:
    """The text of a tokenizer.json that knows `WORDS`."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return str(tokenizer.to_str())


class ColourEngine:
    """A real, exact engine in numpy: an image is its mean colour, a text the colours that it names,
    the logit their negative distance.
    """

    independent = False

    def __init__(self, padding: Any = "longest", score: ScoreSpec | None = None) -> None:
        self.name = "numpy cpu"
        self.image_spec = ImageSpec(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.text_spec = TextSpec(
            context_length=6, pad_id=0, padding=padding, tokenizer_json=word_tokenizer()
        )
        self.score = score or ScoreSpec("probability", 0.5)
        self.image_dim = self.text_dim = self.image_width = self.text_width = 3
        self.length_step = 1
        self.fingerprint = "c0ffee" * 8
        self.image_batches: list[int] = []  # sizes, in order of the calls
        self.text_shapes: list[tuple[int, int]] = []

    def encode_images(self, pixel_values: Any) -> Any:
        self.image_batches.append(len(pixel_values))
        return pixel_values.mean(axis=(2, 3))  # (B, 3)

    def encode_texts(self, input_ids: Any, attention_mask: Any) -> Any:
        self.text_shapes.append(input_ids.shape)
        return np.stack(
            [(input_ids == WORDS.index(word)).any(axis=1) for word in ("red", "green", "blue")],
            axis=1,
        ).astype(np.float32)

    def logits(self, image_embeddings: Any, text_embeddings: Any) -> Any:
        return 1.0 - 2.0 * np.abs(image_embeddings - text_embeddings).sum(axis=1)

    def describe(self) -> dict[str, Any]:
        return {"engine": self.name}


@pytest.fixture(scope="session")
def colour_engine() -> type[ColourEngine]:
    """The class, so that a test may choose its padding."""
    return ColourEngine


COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def colour_images(tmp_path: Path) -> Path:
    """A folder with red.png, green.png, blue.png, a truncated cut.jpg, and lie.jpg,
    which is text.
    """
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 12), colour).save(tmp_path / f"{name}.png")
    Image.effect_noise((64, 64), 80).convert("RGB").save(tmp_path / "whole.jpg", quality=95)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    (tmp_path / "lie.jpg").write_text("not an image")
    return tmp_path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The operating system's Chromium, driven by Playwright."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no chromium; apt-get install chromium")
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; pip install playwright"
    )
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[Remote]:
    """An empty bucket of a server that speaks S3's protocol, for this process and its children."""
    for module in ("moto.server", "s3fs"):
        pytest.importorskip(
            module, reason='moto or s3fs is not installed; pip install "moto[server]" s3fs'
        )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    named = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "never-shown",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in named.items():
            patch.setenv(name, value)
        try:
            end = time.monotonic() + 60
            while server.poll() is None and time.monotonic() < end:
                with (
                    suppress(OSError),
                    urllib.request.urlopen(
                        urllib.request.Request(f"{address}/shop", method="PUT"), timeout=5
                    ),
                ):
                    break
                time.sleep(0.1)
            yield Remote.of("s3://shop")
        finally:
            server.kill()
            server.wait()


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> Remote:
    """An empty place in a store: fsspec's in memory, and one of S3's protocol where there is a
    server of it.
    """
    pytest.importorskip(
        "fsspec", reason='fsspec is not installed; pip install "mismatch-clip[remote]"'
    )
    bucket = (
        Remote.of("memory://shop") if request.param == "memory" else request.getfixturevalue("s3")
    )
    return Remote.of(f"{bucket}/{uuid.uuid4().hex}")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small matrices on several threads wait for each other more than they compute, above all on a
    busy machine.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


WriteRows = Callable[[Path, Iterable[Iterable[Any]]], Path]


@pytest.fixture
def write_rows() -> WriteRows:
    """Write a header and rows as CSV; returns the path."""

    def write(path: Path, rows: Iterable[Iterable[Any]]) -> Path:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        return path

    return write


FAMILIES = ("hf-clip", "openclip")


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Each built-in backbone family in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def tiny_checkpoints(
    made_once: MadeOnce, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """For each family a checkpoint of its `tiny` model with an untrained adapter head, a
    calibration and a threshold; written by one of the processes and copied by each.
    """
    folder = tmp_path_factory.mktemp("checkpoints")
    shutil.copytree(made_once("checkpoints", write_tiny_checkpoints), folder, dirs_exist_ok=True)
    return {name: folder / name for name in FAMILIES}


def write_tiny_checkpoints(folder: Path) -> None:
    """Into a folder for each family."""
    import torch

    from mismatch.backbones.registry import load_backbone
    from mismatch.specs import Calibration, Threshold
    from mismatch.training.checkpoint import meta_for, save_checkpoint
    from mismatch.training.detector import Detector
    from mismatch.training.head import build_head, head_spec_for

    for name in FAMILIES:
        backbone = load_backbone(f"{name}:tiny")
        torch.manual_seed(1)
        spec = head_spec_for(backbone, "adapter")
        head = build_head(spec, backbone)
        for parameter in head.parameters():
            # so that scores spread
            torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
        score = ScoreSpec(
            "probability",
            0.5,
            Calibration(0.7, 0.1, 50),
            Threshold(0.4321, "accuracy", 50, "2026-01-01T00:00:00+00:00"),
        )
        save_checkpoint(
            folder / name,
            Detector(backbone, head).eval(),
            meta_for(name, "tiny", spec, score=score),
            {},
        )


@pytest.fixture(scope="session")
def tiny_bundles(
    tiny_checkpoints: dict[str, Path],
    made_once: MadeOnce,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """The bundles of `tiny_checkpoints`, written by the real exporter in one of the processes and
    copied by each.
    """

    def make(folder: Path) -> None:
        from mismatch.export.onnx import export_bundle
        from mismatch.training.engine import open_checkpoint

        with remembering():
            for name, path in tiny_checkpoints.items():
                export_bundle(open_checkpoint(path, provider="cpu"), folder / name)

    folder = tmp_path_factory.mktemp("bundles")
    shutil.copytree(made_once("bundles", make), folder, dirs_exist_ok=True)
    return {name: folder / name for name in FAMILIES}


def install(folder: Path, *requirements: object) -> Path:
    """A fresh virtual environment with those in it; its bin folder. What is imported is compiled
    then, and what is not never.
    """
    venv.create(folder, with_pip=True)
    bin_folder = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(bin_folder / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-compile", *map(str, requirements)], check=True)
    return bin_folder


def install_beside(folder: Path, own: Path, *requirements: object) -> Path:
    """A virtual environment with our wheel and those, and behind them the packages that this
    process uses; its bin folder. It spares the gigabytes and minutes of a fresh one.
    """
    venv.create(folder, with_pip=True)
    bin_folder = folder / ("Scripts" if os.name == "nt" else "bin")
    paths = {"base": str(folder), "platbase": str(folder)}
    site_packages = Path(sysconfig.get_path("purelib", "venv", paths))
    behind = [path for path in sys.path if Path(path).name == "site-packages"]
    (site_packages / "packages_behind.pth").write_text("\n".join(behind))
    pip = [str(bin_folder / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    install = [*pip, "install", "--no-compile"]
    # ours next to the one that is tested, not in place of it
    subprocess.run([*install, "--no-deps", "--ignore-installed", str(own)], check=True)
    subprocess.run([*install, *map(str, requirements)], check=True)
    return bin_folder


def wheel_of(project: Path, folder: Path) -> Path:
    """Its wheel, built into that folder."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    before = set(folder.glob("*.whl"))
    subprocess.run([*build, str(folder), str(project)], check=True, capture_output=True)
    [wheel] = set(folder.glob("*.whl")) - before
    return wheel


@pytest.fixture(scope="session")
def light(made_once: MadeOnce) -> Path:
    """A fresh virtual environment with the wheel and nothing but what it requires;
    its bin folder.
    """
    folder = made_once("light", lambda path: install(path / "venv", wheel_of(ROOT, path)))
    return folder / "venv" / ("Scripts" if os.name == "nt" else "bin")


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What training logs, in order, as `mismatch train` prints it."""
    with training_lines() as lines:
        yield lines
