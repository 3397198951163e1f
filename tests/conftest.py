"""Fixtures that every test file may use."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mismatch.io.remote import Remote
from tests.support.checkpoints import FAMILIES, export_bundles, write_tiny_checkpoints
from tests.support.engines import ColourEngine, draw_colours
from tests.support.environments import bin_of, install, wheel_of
from tests.support.paths import ROOT
from tests.support.remembered import remembering
from tests.support.rows import WriteRows, write_rows
from tests.support.torchlib import torchlib_once  # noqa: F401 (a fixture)
from tests.support.training_lines import training_lines

# in the background of a shell, where children would ignore Ctrl-C as well
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# and under nohup this one is
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Under `-n`, keep the tests of a file together unless somebody says otherwise: what its
    fixtures make is then made once.
    """
    options = config.option
    if getattr(options, "numprocesses", None) and options.dist == "no":
        options.dist = "loadfile"
        options.loadscopereorder = False


# what takes longest, first: the others fill up what is left of two processes
LONGEST = (
    "test_quickstart",
    "test_lit",
    "test_fashion",
    "test_resume",
    "test_fsdp",
    "test_benchmarks",
    "test_readme",
    "test_from_the_hub",
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
    *("benchmark", "calibrate", "export_onnx", "fashion", "features", "fp16", "fusion", "gate"),
    *(
        "caption_rows",
        "embedded_rows",
        "graphs",
        "int8",
        "notebook",
        "onnx",
        "predictor",
        "quickstart",
        "torch_free",
        "triton",
    ),
    *("tune_threshold", "weights"),
)


@pytest.fixture(autouse=True, scope="module")
def graphs_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """The same tower is traced once, in files that test something else; and torch's table of
    operators is built once, in files that export.
    """
    path = Path(request.node.path)
    traces_once = path.stem.removeprefix("test_") in EXPORTING
    if traces_once or path.parent.name in ("export", "plugins"):
        request.getfixturevalue("torchlib_once")
    with remembering() if traces_once else nullcontext():
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


@pytest.fixture(scope="session")
def fashion() -> Path:
    """Real product photos and titles, kept next to the checkout and not part of the project."""
    folder = ROOT.parent / "shared" / "data" / "fashion"
    if not (folder / "test.csv").is_file():
        pytest.skip(f"the fashion photos are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def colour_engine() -> type[ColourEngine]:
    """The class, so that a test may choose its padding."""
    return ColourEngine


@pytest.fixture
def colour_images(tmp_path: Path) -> Path:
    """A folder with red.png, green.png, blue.png, a truncated cut.jpg, and lie.jpg,
    which is text.
    """
    return draw_colours(tmp_path)


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
    from tests.support.stores import s3_server

    for module in ("moto.server", "s3fs"):
        pytest.importorskip(
            module, reason='moto or s3fs is not installed; pip install "moto[server]" s3fs'
        )
    with s3_server("shop"):
        yield Remote.of("s3://shop")


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
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A stand-in of the model hub that this process asks, with an empty cache and no token."""
    pytest.importorskip("huggingface_hub")
    from tests.support.hub import hub_server, use_hub

    with hub_server() as server:
        use_hub(server, tmp_path / "hub-cache", monkeypatch)
        yield server


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


@pytest.fixture(name="write_rows")
def _write_rows() -> WriteRows:
    """Write a header and rows as CSV; return the path."""
    return write_rows


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


@pytest.fixture(scope="session")
def tiny_bundles(
    tiny_checkpoints: dict[str, Path],
    made_once: MadeOnce,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """The bundles of `tiny_checkpoints`, written by the real exporter in one of the processes and
    copied by each.
    """
    made = made_once("bundles", lambda path: export_bundles(tiny_checkpoints, path))
    folder = tmp_path_factory.mktemp("bundles")
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return {name: folder / name for name in FAMILIES}


@pytest.fixture(scope="session")
def light(made_once: MadeOnce) -> Path:
    """A fresh virtual environment with the wheel and nothing but what it requires;
    its bin folder.
    """
    folder = made_once("light", lambda path: install(path / "venv", wheel_of(ROOT, path)))
    return bin_of(folder / "venv")


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What training logs, in order, as `mismatch train` prints it."""
    with training_lines() as lines:
        yield lines
