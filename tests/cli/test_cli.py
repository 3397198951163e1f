"""The group behind `mismatch`: lazy verbs, both spellings, one line and an exit code for every
failure; and the launcher of a checkout.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import mismatch
from mismatch import cli
from mismatch.cli.sections import SECTIONS
from mismatch.errors import DeviceError, ImageNotFoundError, InputError, MismatchWarning
from mismatch.reports import start_lines
from tests.support.paths import ROOT
from tests.support.processes import command_line, finished

HEAVY = (
    "torch",
    "torchvision",
    "transformers",
    "open_clip",
    "onnx",
    "onnxruntime",
    "jinja2",
    "mismatch.jobs",
    "numpy",
    "PIL",
    "tokenizers",
)
Run = Callable[..., Result]

START = """
import sys
from mismatch.cli import main
try:
    main({args!r})
except SystemExit as stop:
    print(sorted(set({heavy!r}) & set(sys.modules)), file=sys.stderr)
    sys.exit(stop.code)
"""


def start(*args: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that runs one command line; the last line of stderr lists the heavy
    modules that it loaded.
    """
    return subprocess.run(
        [sys.executable, "-c", START.format(args=list(args), heavy=HEAVY)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run `mismatch probe …`, a verb whose body is the given function."""
    monkeypatch.delenv("MISMATCH_DEBUG", raising=False)

    def invoke(
        body: Callable[[], object],
        *args: str,
        before: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
    ) -> Result:
        @click.command()
        @click.option("--train-csv", default="")
        @click.option("--mode", type=click.Choice(["last_n", "full"]))
        def command(train_csv: str, mode: str | None) -> None:
            """Probe."""
            click.echo(f"got {train_csv} {mode}")
            body()

        module = types.ModuleType("mismatch.cli.probe_it")
        module.command = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "mismatch.cli.probe_it", module)
        monkeypatch.setattr(cli, "VERBS", (*cli.VERBS, "probe-it"))
        monkeypatch.delitem(cli.main.commands, "probe-it", raising=False)
        return CliRunner().invoke(cli.main, [*before, "probe-it", *args], env=env)

    yield invoke
    cli.main.commands.pop("probe-it", None)


def nothing() -> None:
    pass


def throw(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--help"],
        ["-h"],
        ["--version"],
        ["backbones", "list"],
        *([verb, "--help"] for verb in cli.VERBS),
    ],
    ids=" ".join,
)
def test_help_and_listing_load_nothing_heavy(args: list[str]) -> None:
    done = start(*args)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1:] == ["[]"]
    assert done.stdout


def test_the_group_lists_every_verb_in_its_section() -> None:
    blocks = [block.splitlines() for block in cli.help_text().split("\n\n")]
    listed = {
        title.removesuffix(":"): tuple(line.split()[0] for line in lines)
        for title, *lines in blocks
        if title.removesuffix(":") in SECTIONS
    }
    assert listed == SECTIONS
    assert list(listed) == ["Start", "Data", "Train", "Decide", "Use", "Plugins"]
    assert "--train_csv" in cli.help_text()


def test_the_group_cuts_no_verbs_help_short() -> None:
    context = click.Context(cli.main)
    commands: list[Any] = [cli.main.get_command(context, verb) for verb in cli.VERBS]
    helps = [command.short_help for command in commands]
    assert all(text and len(text) <= 60 for text in helps)
    shown = cli.help_text()
    assert all(text in shown for text in helps)
    assert "..." not in shown.partition("Start:")[2]


def test_every_verb_has_its_file() -> None:
    helpers = {"flags", "logs", "options", "progress", "sections", "value-types", "verb"}
    files = (
        {path.stem.replace("_", "-") for path in Path(cli.__file__).parent.glob("*.py")}
        - {"--init--"}
        - helpers
    )
    assert files == set(cli.VERBS)


def test_the_version() -> None:
    assert (
        CliRunner().invoke(cli.main, ["--version"]).output == f"mismatch {mismatch.__version__}\n"
    )


@pytest.mark.parametrize("args", [["--train-csv", "a"], ["--train_csv", "a"], ["--train_csv=a"]])
def test_options_have_two_spellings_and_values_keep_theirs(run: Run, args: list[str]) -> None:
    assert run(nothing, *args, "--mode", "last_n").output == "got a last_n\n"


def test_verbs_have_two_spellings(run: Run) -> None:
    assert run(nothing).exit_code == 0
    assert CliRunner().invoke(cli.main, ["probe_it"]).output == "got  None\n"


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (
            InputError("train.csv:3: label 'yes'; 0 or 1 is needed"),
            "mismatch: error: train.csv:3: label 'yes'; 0 or 1 is needed",
            2,
        ),
        (InputError("two\nlines"), "mismatch: error: two\nlines", 2),
        (
            ImageNotFoundError("image 'a.jpg' not found"),
            "mismatch: error: image 'a.jpg' not found",
            2,
        ),
        (DeviceError("no CUDA here"), "mismatch: error: no CUDA here", 2),
        (
            PermissionError(13, "Permission denied", "out.csv"),
            "mismatch: error: [Errno 13] Permission denied: 'out.csv'",
            2,
        ),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            (
                "mismatch: error: mismatch probe-it (no torch here) needs the extra [train]: pip"
                ' install "mismatch-clip[train]"'
            ),
            2,
        ),
        (
            ZeroDivisionError("division by zero"),
            (
                "mismatch: error: unexpected ZeroDivisionError: division by zero; this is a bug,"
                " `mismatch --debug …` shows where"
            ),
            70,
        ),
        (
            ModuleNotFoundError("No module named 'x'", name="x"),
            (
                "mismatch: error: unexpected ModuleNotFoundError: No module named 'x'; this is a"
                " bug, `mismatch --debug …` shows where"
            ),
            70,
        ),
        (KeyboardInterrupt(), "mismatch: interrupted", 130),
        (
            click.UsageError("they go together"),
            "mismatch: error: they go together (see `mismatch probe-it --help`)",
            2,
        ),
        (
            click.FileError("a.csv", "no such file"),
            "mismatch: error: Could not open file 'a.csv': no such file",
            2,
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_a_failure_is_one_line_and_an_exit_code(
    run: Run, error: BaseException, line: str, code: int
) -> None:
    result = run(throw(error))
    assert (result.exit_code, result.stderr.strip()) == (code, line)
    assert result.stdout == "got  None\n"


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["trian"], "there is no command 'trian'; did you mean 'train'? (see `mismatch --help`)"),
        (
            ["export_onx"],
            "there is no command 'export_onx'; did you mean 'export-onnx'? (see `mismatch --help`)",
        ),
        (["zzz"], "there is no command 'zzz' (see `mismatch --help`)"),
        (["backbones", "list", "--jsn"], "(see `mismatch backbones list --help`)"),
        (["--nothing"], "No such option"),
    ],
)
def test_a_wrong_command_line_is_one_line(args: list[str], line: str) -> None:
    result = CliRunner().invoke(cli.main, args)
    assert result.exit_code == 2
    assert line in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_no_command_shows_three_ways_to_begin() -> None:
    result = CliRunner().invoke(cli.main, [])
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{start_lines.START}\n", "")
    commands = [
        line.split() for line in start_lines.START.splitlines() if line.startswith("  mismatch ")
    ]
    assert [words[1] for words in commands] == ["quickstart", "train", "predict"]
    assert max(map(len, start_lines.START.splitlines())) <= 100
    for _, verb, *words in commands:
        command = cli.main.get_command(click.Context(cli.main), verb)
        assert command is not None
        flags = {flag for param in command.params for flag in param.opts}
        assert {word for word in words if word.startswith("--")} <= flags


def test_a_group_without_a_command_shows_its_help() -> None:
    result = CliRunner().invoke(cli.main, ["backbones"])
    assert result.exit_code == 2
    assert "check" in result.stderr


@pytest.mark.parametrize(
    "how",
    [{"before": ("--debug",)}, {"args": ("--debug",)}, {"env": {"MISMATCH_DEBUG": "1"}}],
    ids=["before", "after", "environment"],
)
def test_debug_shows_the_traceback(run: Run, how: dict[str, tuple[str, ...]]) -> None:
    result = run(throw(InputError("bad row")), *how.pop("args", ()), **how)
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == "mismatch: error: bad row"


def test_exit_codes_of_verbs_pass_through(run: Run) -> None:
    assert run(lambda: click.get_current_context().exit(1)).exit_code == 1
    assert run(lambda: sys.exit(3)).exit_code == 3
    assert run(lambda: "a value is no exit code").exit_code == 0


def test_our_warnings_are_lines_and_the_state_is_restored(run: Run) -> None:
    before = warnings.showwarning, list(warnings.filters)
    result = run(
        lambda: [warnings.warn("mind the gap", MismatchWarning, stacklevel=1) for _ in range(2)]
    )
    assert result.stderr == "mismatch: warning: mind the gap\n" * 2
    assert (warnings.showwarning, list(warnings.filters)) == before


@pytest.mark.parametrize(
    "path", [(), *((verb,) for verb in cli.VERBS), ("backbones", "list")], ids=" ".join
)
def test_help_reads_alike_on_every_terminal(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = set()
    for columns in ("40", "100", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        texts.add(cli.help_text(*path))
    assert len(texts) == 1
    text = texts.pop()
    assert text.startswith(f"Usage: {' '.join(('mismatch', *path))} ")
    assert max(map(len, text.splitlines())) <= 100
    assert text == CliRunner().invoke(
        cli.main, [*path, "--help"], terminal_width=100
    ).output.rstrip("\n")


def test_help_of_an_unknown_verb_is_refused() -> None:
    with pytest.raises(click.UsageError, match="'nothing'"):
        cli.help_text("nothing")


def test_python_m_mismatch_is_mismatch() -> None:
    done = finished(command_line("--help"), cwd=ROOT)
    assert done.stdout.startswith("Usage: mismatch [OPTIONS] COMMAND")


def test_a_closed_pipe_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command_line("backbones", "list"),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    os.close(writer)
    assert (done.stderr, done.returncode) == ("", 1)


INTERRUPTED = """
import os, signal
from mismatch.backbones import registry
from mismatch.cli import main
registry.families = lambda: os.kill(os.getpid(), signal.SIGINT)
main(["backbones", "list"])
"""


def test_an_interrupt_is_exit_130() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.stderr.strip(), done.returncode) == ("mismatch: interrupted", 130)


TERMINATED = """
import os, signal, sys
from mismatch.backbones import registry
from mismatch.cli import main
from mismatch.io.atomic import atomic_file

def families():
    with atomic_file(sys.argv[1]) as file:
        file.write("half")
        try:
            os.kill(os.getpid(), int(sys.argv[2]))
        finally:
            os.kill(os.getpid(), int(sys.argv[2]))  # as `timeout` does

registry.families = families
main(["backbones", "list"])
"""


@pytest.mark.parametrize(
    ("number", "said", "code"),
    [(signal.SIGTERM, "mismatch: terminated", 143), (signal.SIGHUP, "mismatch: hung up", 129)],
)
def test_a_signal_that_ends_it_cleans_up_and_has_its_exit_code(
    tmp_path: Path, number: int, said: str, code: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED, str(tmp_path / "out.csv"), str(int(number))],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.stderr.strip(), done.returncode) == (said, code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            MemoryError(),
            (
                "mismatch: error: the command was ended: there is not enough memory; use a smaller"
                " `batch_size` or fewer `num_workers`"
            ),
        ),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory"
            ),
            "there is not enough memory",
        ),
        (
            RuntimeError("can't start new thread"),
            (
                "mismatch: error: the command was ended: can't start new thread; close other"
                " programs, or raise `ulimit -u`"
            ),
        ),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            "mismatch: error: can't write standard output: No space left on device",
        ),
    ],
)
def test_what_the_machine_lacks_is_one_line_and_no_bug(
    run: Run, error: Exception, said: str
) -> None:
    def fail() -> None:
        raise error

    result = run(fail)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert said in result.stderr


def test_a_handler_of_somebody_else_stays(run: Run) -> None:
    seen: list[object] = []
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert run(lambda: seen.append(signal.getsignal(signal.SIGTERM))).exit_code == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIG_IGN]
    assert run(lambda: seen.append(signal.getsignal(signal.SIGTERM))).exit_code == 0
    assert seen[1] not in (signal.SIG_IGN, signal.SIG_DFL)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    "args", [["--version"], ["backbones", "list"], ["backbones", "show", "opnclip"]], ids=" ".join
)
def test_the_launcher_is_the_command(args: list[str], tmp_path: Path) -> None:
    launched = finished([sys.executable, ROOT / "cli.py", *args], cwd=tmp_path)
    command = finished(command_line(*args), cwd=ROOT)
    assert (launched.stdout, launched.stderr, launched.returncode) == (
        command.stdout,
        command.stderr,
        command.returncode,
    )
    assert launched.stdout or launched.stderr


PIP_LINE = (
    "mismatch: error: this checkout is not installed ({}); from its folder run: python -m pip"
    ' install -e ".[train]"\n'
)
METADATA_ONLY = f"""
import importlib.metadata, runpy, sys
importlib.metadata.distribution = str
sys.path.insert(0, {str(ROOT)!r})
runpy.run_path({str(ROOT / "cli.py")!r}, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ([str(ROOT / "cli.py"), "train"], "its entry points are unknown to this Python"),
        (["-c", METADATA_ONLY], "there is no module 'click'"),
    ],
    ids=["nothing is installed", "a dependency is missing"],
)
def test_the_launcher_says_which_pip_line_it_needs(args: list[str], reason: str) -> None:
    done = subprocess.run(
        [sys.executable, "-S", *args],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert (done.stderr, done.returncode) == (PIP_LINE.format(reason), 2)
