"""Starts commands of mismatch by forking a process that has imported all that is heavy: a tenth of
a second each, where a new one would take ten.

A request is a line of JSON on standard input: {"args", "cwd", "out", "err", "env", "limits",
"fault", "prelude"} is answered by {"pid"}, {"wait": pid} by {"code"}. No thread runs here and no
model is loaded, so that forking is safe.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import traceback
from typing import Any

import matplotlib.pyplot as plt  # noqa: F401
import onnx  # noqa: F401
import onnxscript  # noqa: F401
import open_clip  # noqa: F401
import torch
import transformers  # noqa: F401

import mismatch.cli
import mismatch.export.onnx
import mismatch.training.trainer


def main(shim: str) -> None:
    """Answer until standard input ends."""
    torch.set_num_threads(1)
    arm = ctypes.CDLL(shim).fault_arm
    print(json.dumps({"ready": True}), flush=True)
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        if "wait" in request:
            answer = {"code": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}
        else:
            child = os.fork()
            if not child:
                run(request, arm)
            answer = {"pid": child}
        print(json.dumps(answer), flush=True)


def run(request: dict[str, Any], arm: Any) -> None:
    """Be the command, to its end."""
    code = 70
    try:
        for descriptor, name in enumerate(("/dev/null", request["out"], request["err"])):
            os.dup2(os.open(name, os.O_RDWR | (os.O_CREAT if descriptor else 0)), descriptor)
        os.setsid()
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        exec(request["prelude"], {"__name__": "prelude"})  # noqa: S102 (the test's own)
        for name, value in request["limits"].items():
            resource.setrlimit(getattr(resource, name), (value, value))
        arm(request["fault"].encode())
        mismatch.cli.main(request["args"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 (what the command line should have caught)
        traceback.print_exc()
    finally:
        arm(b"")
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 1
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
