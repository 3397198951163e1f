"""What tests of several processes share: a few rows, runs of `mismatch train` under a launcher or
killed on their way, and how far two of them agree.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from tests.support.fork_server import Command, ForkServer
from tests.support.pictures import tinted
from tests.support.processes import free_port, started

__all__ = [
    "ACCELERATE",
    "FORKED",
    "LAUNCHERS",
    "check_curves",
    "furthest",
    "run_program",
    "run_training",
    "trained",
    "write_training_rows",
]


COLOURS, THINGS = ("red", "green", "blue"), ("shirt", "shoe", "bag")
ACCELERATE = (
    "accelerate.commands.launch --num_processes 2 --num_machines 1 --main_process_port 0"
    " --mixed_precision no --dynamo_backend no"
)
QUICK = "--precision fp32 --dropout 0 --threads 1 --num-workers 1 --device cpu --epochs 2"
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
PRELUDE = """
import os, signal
from mismatch.training.folder import output
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
# drawing takes longer than most runs here
output.curves_png = lambda stats: b""
"""
PROGRAM = f"{PRELUDE}\nfrom mismatch.cli import main\nmain()\n"
# what a run imports, once for all of them
HEAVY = (
    *("accelerate", "open_clip", "mismatch.cli", "mismatch.training.trainer"),
    *("transformers", "mismatch_hf_clip.backbone", "transformers.models.clip.modeling_clip"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "torch.distributed.fsdp"),
)


def write_training_rows(folder: Path) -> None:
    """41 rows to train on, which no two processes and no batch of 16 divide; 13 to validate on;
    and a small model of each family, under its name.
    """
    # FSDP gathers blocks one by one where a tower has several
    clip, vit = _kinds("hf-clip")["clip"], _kinds("openclip")["vit"]
    replace(clip, config={"vision_config": {"num_hidden_layers": 2}}).save(folder / "hf-clip")
    replace(vit, vision=vit.vision | {"layers": 2}).write(folder / "openclip")
    noise = np.random.default_rng(0)
    lines = []
    for i in range(18):
        tinted(noise, i, 16).save(folder / f"{i}.png")
        lines += [
            f"{i}.png,{colour} {THINGS[(i + k) % 3]}{' of soft cotton' * (i % 2)},{int(k == i % 3)}"
            for k, colour in enumerate(COLOURS)
        ]
    order = noise.permutation(len(lines))
    for name, chosen in (("train.csv", order[:41]), ("val.csv", order[41:])):
        (folder / name).write_text(
            "\n".join(["image_path,text,label", *(lines[i] for i in chosen)]) + "\n"
        )


def _kinds(family: str) -> dict[str, Any]:
    """Return the small models of each kind that the family's own tests make."""
    kinds: dict[str, Any] = import_module(
        f"tests.plugins.test_{family.replace('-', '_')}_kinds"
    ).KINDS
    return kinds


def run_training(
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
    family = options[options.index("--backbone") + 1] if "--backbone" in options else "hf-clip"
    arguments = [
        "train",
        "--model-name",
        str(rows / str(family)),
        *(str(word) for option, path in place.items() for word in (option, rows / path)),
        *QUICK.split(),
        *map(str, options),
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1", "STOP_AFTER": str(stop_after)}
    if launcher in (None, FORKED):
        return _forked(rows, arguments, env, 1 if launcher is None else 2, PRELUDE)
    (rows / "program.py").write_text(PROGRAM)
    command = [
        sys.executable,
        "-m",
        *LAUNCHERS.get(launcher, launcher).format(port=free_port()).split(),
        str(rows / "program.py"),
        *arguments,
    ]
    # the same command on each machine
    machines = 2 if launcher == "two machines" else 1
    with ExitStack() as stack:
        running = [
            stack.enter_context(started(command, env=env, stdout=subprocess.PIPE))
            for _ in range(machines)
        ]
        said, errors = map("".join, zip(*(one.communicate() for one in running), strict=True))
    code = max((one.returncode for one in running), key=abs)
    return subprocess.CompletedProcess(command, code, said, errors)


def run_program(rows: Path, program: str, *arguments: object) -> Any:
    """Two processes that run a program of Python, ended."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return _forked(rows, [*map(str, arguments)], env, 2, f"{program}\nraise SystemExit(0)\n")


def _forked(
    folder: Path, arguments: list[str], env: dict[str, str], count: int, prelude: str
) -> Any:
    meeting = (
        {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
        if count > 1
        else {}
    )
    files = [folder / "out.txt", folder / "err.txt"]
    for file in files:
        file.write_text("")
    server = _server()
    processes = []
    for rank in range(count):
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if meeting else {}
        out, err = map(str, files)
        command = Command(arguments, out, err, env | meeting | ranks, prelude=prelude)
        processes.append(server.start(command))
    code = server.wait(*processes)
    return subprocess.CompletedProcess(arguments, code, *(file.read_text() for file in files))


@cache
def _server() -> ForkServer:
    return ForkServer(HEAVY)


def trained(
    rows: Path, name: str, *options: object, launcher: str | None = None
) -> tuple[dict[str, Any], Any, str]:
    """Weights, statistics and what was printed."""
    done = run_training(rows, name, *options, launcher=launcher)
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
