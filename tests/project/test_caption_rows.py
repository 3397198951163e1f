"""Rows in the forms that sets of captions come in, and rows that were converted: every command
works on each, and a picture has the score that it has in a plain CSV, to the last bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.project.test_embedded_rows import everything, toy  # noqa: F401 (a fixture)
from tests.support.captions import CAPTIONS
from tests.support.embedded import as_files

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def of_csv(module_folder: Path) -> dict[str, Any]:
    return everything(module_folder / "files", as_files)


@pytest.mark.parametrize("name", CAPTIONS)
def test_every_command_gives_what_it_gives_of_a_csv(
    name: str, module_folder: Path, of_csv: dict[str, Any]
) -> None:
    assert everything(module_folder / name.replace(" ", "-"), CAPTIONS[name]) == of_csv
