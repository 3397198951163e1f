"""mismatch.jobs.lexicon_file: a lexicon of one's own is read, or refused in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mismatch.errors import InputError
from mismatch.jobs.lexicon_file import read_lexicon


def test_classes_of_words(tmp_path: Path) -> None:
    (tmp_path / "words.yaml").write_text("shape: [round, square]\n")
    assert read_lexicon(tmp_path / "words.yaml") == {"shape": ["round", "square"]}
    assert read_lexicon(None) is None


def test_a_lexicon_that_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "huge.yaml").touch()
    os.truncate(tmp_path / "huge.yaml", 10 * 2**30)
    for name, words in (("pipe.yaml", "a pipe or a device"), ("huge.yaml", "larger than")):
        with pytest.raises(InputError, match=words):
            read_lexicon(tmp_path / name)
