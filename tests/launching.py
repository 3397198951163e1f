"""What tests of several processes share: a few rows, runs of `mismatch train` under a launcher or
killed on their way, and how far two of them agree.

As a program it is what forks the processes of a run: it has imported all that is heavy, so that
they begin in a tenth of a second instead of ten.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import load_file

from tests.serving import free_port

ROOT = Path(__file__).resolve().parents[1]
COLOURS, THINGS = ("red", "green", "blue"), ("shirt", "shoe", "bag")
ACCELERATE = (
    "accelerate.commands.launch --num_processes 2 --num_machines 1 --main_process_port 0"
    " --mixed_precision no --dynamo_backend no"
)
FORKED = "forked"  # two processes with the environment that torchrun gives
# --multi_gpu is accelerate's word for several processes, with GPUs or without; its --cpu starts one
LAUNCHERS = {
    "torchrun": (
        "torch.distributed.run --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint localhost:0"
    ),
    "two machines": (
        "torch.distributed.run --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-id run"
        " --rdzv-endpoint localhost:{port}"
    ),
    "accelerate": f"{ACCELERATE} --multi_gpu",
}
PROGRAM = """
import os, signal
from mismatch.cli import main
from mismatch.training.run import Run
from mismatch.training.saving import Saver

def end(part):
    if part.main:
        os.kill(os.getpid(), signal.SIGKILL)

def epoch(run, number, real=Run._epoch):
    real(run, number)
    if str(number) == os.environ["STOP_AFTER"]:
        end(run)

def save_last(saver, real=Saver.save_last):
    real(saver)
    if os.environ["STOP_AFTER"] == "checkpoint_last":
        end(saver)

Run._epoch = epoch
Saver.save_last = save_last
main()
"""


def write_rows(folder: Path) -> None:
    """41 rows to train on, which no two processes and no batch of 16 divide; 13 to validate on."""
    noise = np.random.default_rng(0)
    lines = []
    for i in range(18):
        pixels = noise.integers(0, 90, (16, 16, 3))
        pixels[..., i % 3] += 120
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        lines += [
            f"{i}.png,{colour} {THINGS[(i + k) % 3]}{' of soft cotton' * (i % 2)},{int(k == i % 3)}"
            for k, colour in enumerate(COLOURS)
        ]
    order = noise.permutation(len(lines))
    for name, chosen in (("train.csv", order[:41]), ("val.csv", order[41:])):
        (folder / name).write_text(
            "\n".join(["image_path,text,label", *(lines[i] for i in chosen)]) + "\n"
        )


def started(
    rows: Path,
    name: str,
    *options: object,
    launcher: str | None = None,
    stop_after: int | str | None = None,
) -> Any:
    """The process of a run, or of all that were launched, ended; its main process is killed behind
    the epoch `stop_after`, or behind a checkpoint_last. `launcher`: FORKED, one of LAUNCHERS, or
    the words of one.
    """
    place = {
        "--train-csv": "train.csv",
        "--val-csv": "val.csv",
        "--image-base-path": "",
        "--output-dir": name,
        "--cache": f"{name}/c",
    }
    how = [
        "--model-name",
        "tiny",
        "--precision",
        "fp32",
        "--dropout",
        0,
        "--threads",
        1,
        "--num-workers",
        1,
        "--device",
        "cpu",
        "--epochs",
        2,
        *options,
    ]
    arguments = [
        "train",
        *(str(word) for option, path in place.items() for word in (option, rows / path)),
        *map(str, how),
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1", "STOP_AFTER": str(stop_after)}
    if launcher in (None, FORKED):
        return _forked(rows, arguments, env, 1 if launcher is None else 2)
    (rows / "program.py").write_text(PROGRAM)
    command = [
        sys.executable,
        "-m",
        *LAUNCHERS.get(launcher, launcher).format(port=free_port()).split(),
        str(rows / "program.py"),
        *arguments,
    ]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # the same command on each machine
    running = [
        subprocess.Popen(command, env=env, **pipes)
        for _ in range(2 if launcher == "two machines" else 1)
    ]
    said, errors = map("".join, zip(*(one.communicate() for one in running), strict=True))
    return subprocess.CompletedProcess(
        command, max((one.returncode for one in running), key=abs), said, errors
    )


def _forked(folder: Path, arguments: list[str], env: dict[str, str], count: int) -> Any:
    meeting = (
        {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
        if count > 1
        else {}
    )
    each = [
        env | meeting | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if meeting else {})
        for rank in range(count)
    ]
    files = [folder / "out.txt", folder / "err.txt"]
    for file in files:
        file.write_text("")
    forker = _forker()
    forker.stdin.write(
        json.dumps({"arguments": arguments, "environments": each, "files": list(map(str, files))})
        + "\n"
    )
    forker.stdin.flush()
    return subprocess.CompletedProcess(
        arguments, json.loads(forker.stdout.readline()), *(file.read_text() for file in files)
    )


@cache
def _forker() -> Any:
    """It ends when this process does, as its standard input ends then."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.launching"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def trained(
    rows: Path, name: str, *options: object, launcher: str | None = None
) -> tuple[dict[str, Any], Any, str]:
    """Weights, statistics and what was printed."""
    done = started(rows, name, *options, launcher=launcher)
    assert done.returncode == 0, done.stderr
    final = rows / name / "final_model"
    return (
        {
            key: value
            for file in final.glob("*.safetensors")
            for key, value in load_file(file).items()
        },
        json.loads((final / "training_stats.json").read_text()),
        done.stdout,
    )


def furthest(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Between two runs' weights, which have the same names and shapes."""
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in theirs.items()
    }
    return max(float((ours[name].double() - theirs[name].double()).abs().max()) for name in ours)


def check_curves(ours: dict[str, Any], theirs: dict[str, Any], rtol: float = 1e-4) -> None:
    for name in ("train_losses", "train_contrastive_losses", "val_losses"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=rtol)


# --- as a program


def fork_runs() -> None:
    """Answer each line of JSON by the exit status of the run that it asks for, until standard input
    ends. No thread runs here, so that forking is safe.
    """
    import accelerate  # noqa: F401
    import open_clip  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import mismatch.cli
    import mismatch.training.trainer  # noqa: F401

    torch.set_num_threads(1)
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        children = set()
        for environment in asked["environments"]:
            if not (child := os.fork()):
                run(asked["arguments"], environment, asked["files"])
            children.add(child)
        print(ended(children), flush=True)


def ended(children: set[int]) -> int:
    """The status of the first that fails, which ends the others, as torchrun does; else 0."""
    found = 0
    while children:
        child, status = os.wait()
        children.discard(child)
        code = os.waitstatus_to_exitcode(status)
        if code and not found:
            found = code
            for other in children:
                os.kill(other, signal.SIGKILL)
    return found


def run(arguments: list[str], environment: dict[str, str], files: list[str]) -> None:
    """Be one process of a run, to its end."""
    code = 70
    try:
        for descriptor, name in enumerate(("/dev/null", *files)):
            os.dup2(os.open(name, os.O_RDWR | os.O_APPEND), descriptor)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["mismatch", *arguments]
        exec(PROGRAM, {"__name__": "__main__"})  # noqa: S102 (the tests' own)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 (what the command line should have caught)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    fork_runs()
