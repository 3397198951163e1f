"""The README is short, and its examples and those of the site run as they stand.

Blocks below `<!-- run -->` are run, commands and Python. Two things are changed on the way: training
gets `--model-name tiny --epochs 1`, since the default backbone needs a network, and the files that
the examples name are drawn first. A page of the site finds what the README's examples leave:
data/, fine_tuned_clip/, bundle/. In a whole run each command is a process of its own; each day the
examples' share this one, which has imported torch.
"""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from mismatch.backbones.template import plugin_files
from mismatch.cli import main
from tests.support.paths import ROOT, WHOLE

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT / "docs").as_posix(): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "docs").rglob("*.md"))
}
MARK = "<!-- run -->\n"
EXAMPLE = re.compile(r"^<!-- run -->\n```(bash|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COLOURS = {"Red": (200, 30, 30), "Blue": (30, 30, 200), "Green": (30, 160, 40)}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/train.csv, val.csv, test.csv and data/images, as the examples have it."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "data" / "images").mkdir(parents=True)
    rows = []
    for i in range(60):
        colour = list(COLOURS)[i % 3]
        Image.new("RGB", (40 + i, 50), COLOURS[colour]).save(
            folder / "data" / "images" / f"{1001 + i}.jpg"
        )
        said = list(COLOURS)[(i + i % 2) % 3]
        rows.append(
            (f"images/{1001 + i}.jpg", f"{said} leather handbag no. {i}", int(said == colour))
        )
    for name, part in {"train": rows[:36], "val": rows[36:48], "test": rows[48:]}.items():
        with (folder / "data" / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("image_path", "text", "label"), *part])
    with (folder / "data" / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("image_path", "text"), *((image, text) for image, text, label in rows if label)]
        )
    return folder


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done


def small(command: str) -> list[str]:
    words = shlex.split(command)
    return (
        [*words, "--model-name", "tiny", "--epochs", "1"]
        if words[:2] == ["mismatch", "train"]
        else words
    )


def run_command(command: list[str], workplace: Path) -> None:
    """As a shell does it, or in this process."""
    if WHOLE:
        run(command, workplace)
        return
    name, *arguments = command
    assert name == "mismatch"
    result = CliRunner().invoke(main, arguments, prog_name=name)
    assert result.exit_code == 0, f"{' '.join(command)}\n{result.output}"


def run_python(text: str, workplace: Path) -> None:
    """As a program, or in this process."""
    if WHOLE:
        run([sys.executable, "-c", text], workplace)
        return
    exec(compile(text, "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102 (our own)


def run_examples(text: str, folder: Path) -> None:
    """Run a page's examples one after the other."""
    examples = EXAMPLE.findall(text)
    assert len(examples) == text.count(MARK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for language, example in examples:
            if language == "python":
                run_python(example, folder)
                continue
            for line in example.replace("\\\n", " ").strip().splitlines():
                run_command(small(line), folder)


@pytest.fixture(scope="module")
def after_readme(workplace: Path) -> Path:
    """The folder in which README's examples have run."""
    run_examples(README, workplace)
    return workplace


def test_the_examples_of_the_readme_run(after_readme: Path) -> None:
    assert README.count(MARK) == 2
    assert (after_readme / "bundle" / "parity.json").is_file()
    with (after_readme / "scores.csv").open(newline="", encoding="utf-8") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok"] * 12


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if MARK in text])
def test_the_examples_of_a_page_run(page: str, after_readme: Path, tmp_path: Path) -> None:
    folder = tmp_path / "place"
    shutil.copytree(after_readme, folder, copy_function=os.link)  # files are replaced, not changed
    run_examples(PAGES[page], folder)


def test_the_readme_is_short_and_plain() -> None:
    lines = README.splitlines()
    assert len(lines) <= 200
    assert [line for line in lines if len(line) > 100] == []
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
    paragraphs = [part for part in prose.split("\n\n") if not part.startswith(("|", "- "))]
    assert [part for part in paragraphs if len(part.split()) > 80] == []
    assert re.findall(r"^## (.+)$", README, re.MULTILINE)[0] == "Two commands"


def test_the_links_of_the_readme_lead_to_files() -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", README)]
    assert len(links) > 20
    assert [link for link in links if ":" not in link and not (ROOT / link).is_file()] == []


@pytest.mark.slow
def test_the_launcher_of_a_checkout_is_the_command(
    workplace: Path, tiny_bundles: dict[str, Path]
) -> None:
    pair = ["--model", str(tiny_bundles["openclip"]), "--image", "data/images/1001.jpg"]
    more = ["--text", "x", "--image_base_path", ".", "--threshold", "0.25"]
    done = run([sys.executable, str(ROOT / "cli.py"), "predict", *pair, *more], workplace)
    assert "\nThreshold: 0.25\n" in done.stdout


# runs each command in one process, which finds the plugin as the command line does
EACH = """
import shlex, sys
from mismatch.cli import main

for command in sys.argv[1:]:
    try:
        main(shlex.split(command))
    except SystemExit as end:
        if end.code:
            raise
"""
TRAIN = (
    "train --backbone bag --train-csv data/train.csv --val-csv data/val.csv --image-base-path data"
    " --output-dir bag --epochs 1"
)
EXPORT = "export-onnx --model bag/best_model --output bag-bundle"
PREDICT = "predict --model bag-bundle --image data/images/1001.jpg --text handbag"


@pytest.mark.slow
def test_the_plugin_guide_works_as_it_stands(workplace: Path, tmp_path: Path) -> None:
    """From `backbones new` through its wheel to a passing contract, then trained, exported and
    used.
    """
    marked = re.compile(r"<!-- run: plugin -->\n```bash\n(.*?)```", re.DOTALL)
    [lines] = [match for text in PAGES.values() for match in marked.findall(text)]
    new, install, check = (shlex.split(line) for line in lines.splitlines())
    installed = str(tmp_path / "installed")
    # of this environment, and next to it
    options = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        installed,
    ]

    run(new, tmp_path)
    run([sys.executable, "-m", *install, *options], tmp_path)
    commands = ["backbones show bag", shlex.join(check[1:]), TRAIN, EXPORT, PREDICT]
    done = run([sys.executable, "-c", EACH, *commands], workplace, PYTHONPATH=installed)
    assert "mismatch-bag" in done.stdout
    assert "FAIL" not in done.stdout
    assert "ok    entry point" in done.stdout  # the wheel's, since none is in editable mode
    assert "0 decisions flipped" in done.stdout
    assert "Similarity Score:" in done.stdout


def test_the_plugin_of_the_guide_is_small() -> None:
    code = [text for name, text in plugin_files("bag").items() if name.startswith("mismatch_bag/")]
    assert len([line for line in "".join(code).splitlines() if line.strip()]) < 65
