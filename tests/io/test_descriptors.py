"""mismatch.io.descriptors: names of open files are known, and nothing behind them is replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mismatch.io.descriptors import STANDARD_OUTPUT, descriptor_of, writing_to

pytestmark = pytest.mark.skipif(not Path("/dev/fd").exists(), reason="there is no /dev/fd")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link", "second"])
def test_standard_output_is_known_by_each_of_its_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    (tmp_path / "second").symlink_to("link")
    if name.startswith("/proc") and not Path("/proc/self/fd").exists():
        pytest.skip("there is no /proc")
    assert descriptor_of(tmp_path / name) == STANDARD_OUTPUT
    assert descriptor_of(str(tmp_path / name)) == STANDARD_OUTPUT


@pytest.mark.parametrize("name", ["-", "1", "out.csv", "/dev/null", "/dev/fd", "loop", "a/b/1", ""])
def test_other_paths_are_no_open_files(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    assert descriptor_of(name) is None


def test_what_is_written_stands_where_the_open_file_is(tmp_path: Path) -> None:
    with (tmp_path / "app.csv").open("w") as file:
        file.write("before\n")
        file.flush()
        with writing_to(file.fileno(), "w", encoding="utf-8") as more:
            more.write("é\n")
        file.write("after\n")
    assert (tmp_path / "app.csv").read_text(encoding="utf-8") == "before\né\nafter\n"
    with pytest.raises(OSError, match="Bad file descriptor"), writing_to(987, "w"):
        pytest.fail("never reached")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/dev/fd/7"])
def test_a_file_that_is_written_whole_goes_to_the_open_file(tmp_path: Path, name: str) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom mismatch.io.atomic import atomic_file, write_json\n"
        "from mismatch.io.locks import locked\nfrom mismatch.io.outputs import check_outputs\n"
        "print('printed')\n"
        f"check_outputs([('--output', Path({name!r}), None)])\n"
        f"with locked({name!r}), atomic_file({name!r}) as file: file.write('written\\n')\n"
        f"write_json({name!r}, [])\n"
    )
    (tmp_path / "app.csv").write_text("older\n")
    with (tmp_path / "app.csv").open("a") as file:
        os.set_inheritable(file.fileno(), True)
        redirected = f'exec 7>&1; {sys.executable} -c "$CODE"'
        subprocess.run(
            ["bash", "-c", redirected], env=os.environ | {"CODE": code}, stdout=file, check=True
        )
    assert (tmp_path / "app.csv").read_text() == "older\nprinted\nwritten\n[]\n"
    assert [path.name for path in tmp_path.iterdir()] == ["app.csv"]
