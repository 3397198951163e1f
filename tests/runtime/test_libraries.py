"""mismatch.runtime.libraries: nothing is written into the home folder and no name is looked up,
unless the user's environment says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mismatch.runtime.libraries import SWITCHES, send_nothing

WATCH = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

static void note(const char *name) {
    FILE *file = fopen(getenv("LOOKED_UP"), "a");
    fprintf(file, "%s\\n", name ? name : "");
    fclose(file);
}
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    note(name);
    return EAI_FAIL;
}
struct hostent *gethostbyname(const char *name) {
    note(name);
    return NULL;
}
"""
PREDICT = (
    "import mismatch, sys; from PIL import Image;"
    " mismatch.load(sys.argv[1]).predict(Image.new('RGB', (9, 9)), 'red bag')"
)
RAW = "import mismatch; mismatch.load('openclip:tiny')"
EXPORT = "import mismatch.export.onnx"
LOOK_UP = "import socket\ntry: socket.getaddrinfo('name.invalid', 80)\nexcept OSError: pass"


@pytest.fixture(scope="module")
def watcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a C compiler on Linux is needed to watch what C code looks up")
    folder = tmp_path_factory.mktemp("watcher")
    (folder / "watch.c").write_text(WATCH)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", folder / "watch.so", folder / "watch.c", "-ldl"],
        check=True,
    )
    return folder / "watch.so"


def run(
    code: str, watcher: Path, home: Path, *args: object, env: Mapping[str, str] | None = None
) -> tuple[list[str], list[str]]:
    """A fresh process → the files in its home, and the names that it has looked up."""
    own = {name for variables in SWITCHES.values() for name in variables} | {
        "XDG_CACHE_HOME",
        "HF_HOME",
    }
    fresh = {name: value for name, value in os.environ.items() if name not in own}
    names = home.parent / "looked-up"
    home.mkdir()
    fresh |= {"HOME": str(home), "LD_PRELOAD": str(watcher), "LOOKED_UP": str(names)}
    subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env=fresh | dict(env or {}),
        check=True,
        capture_output=True,
        timeout=120,
    )
    return sorted(str(path) for path in home.rglob("*") if path.is_file()), (
        names.read_text().splitlines() if names.exists() else []
    )


def test_the_watcher_sees(watcher: Path, tmp_path: Path) -> None:
    assert run(LOOK_UP, watcher, tmp_path / "home") == ([], ["name.invalid"])


@pytest.mark.parametrize("code", [PREDICT, RAW, EXPORT], ids=["bundle", "backbone", "export"])
def test_nothing_is_sent(
    code: str, watcher: Path, tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    assert run(code, watcher, tmp_path / "home", next(iter(tiny_bundles.values()))) == ([], [])


def test_a_users_own_setting_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in SWITCHES.values():
        for name in variables:
            monkeypatch.setenv(name, "mine")
    send_nothing(*SWITCHES)
    assert {os.environ[name] for variables in SWITCHES.values() for name in variables} == {"mine"}


@pytest.mark.parametrize("library", SWITCHES)
def test_a_switch_is_set_for_the_library_that_is_loaded_alone(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variables in SWITCHES.values():
        for name in variables:
            monkeypatch.delenv(name, raising=False)
    send_nothing(library)
    others = {
        name for other, variables in SWITCHES.items() for name in variables if other != library
    }
    assert {name: os.environ.get(name) for name in SWITCHES[library]} == SWITCHES[library]
    assert not others & set(os.environ)
    for name in SWITCHES[library]:
        monkeypatch.delenv(name)
