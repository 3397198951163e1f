"""Readers of what strangers write, under random damage: a short run of each target of tests/fuzz,
and what longer runs found.
"""

from __future__ import annotations

import io
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from mismatch.data.pairs import read_header, read_rows
from mismatch.errors import CheckpointError, InputError
from mismatch.io.reading import read_json
from mismatch.jobs.lexicon_file import read_lexicon
from mismatch.runtime.bundle import MANIFEST, looks_like_bundle, read_bundle
from mismatch.runtime.cache import EmbeddingCache
from mismatch.runtime.tokenize import Tokenizer
from mismatch.training.checkpoint import META, read_meta
from mismatch.training.config import kinds
from mismatch.training.settings import read_settings
from tests.fuzz.__main__ import mutated
from tests.fuzz.targets import TARGETS, cache_seeds, text_spec, tokenizer_json
from tests.support.paths import ROOT

INPUTS = 60  # of each target
DEEP = "[" * 100_000


# starlette's, of a broken form
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("name", TARGETS)
def test_damage_gives_a_result_or_one_line(name: str) -> None:
    target, chance = TARGETS[name], random.Random(name)
    seeds = target.seeds()
    for seed in seeds:
        target.check(seed)
    for _ in range(INPUTS):
        target.check(mutated(chance.choice(seeds), chance, seeds))


def test_the_command_names_its_targets_and_keeps_what_it_finds(tmp_path: Path) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--list"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    ).stdout
    assert listed.split() == list(TARGETS)
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "serving",
        "--minutes",
        "0.005",
        "--keep",
        str(tmp_path / "kept"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 findings" in done.stdout
    assert not (tmp_path / "kept").exists()


def test_json_nested_without_end(tmp_path: Path) -> None:
    for name in (MANIFEST, META):
        (tmp_path / name).write_text(DEEP)
    assert not looks_like_bundle(tmp_path)
    for read in (read_bundle, read_meta, lambda folder: read_json(folder / META)):
        with pytest.raises(CheckpointError, match="is not valid JSON"):
            read(tmp_path)


def test_yaml_nested_without_end(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("[" * 5000)
    with pytest.raises(InputError, match="can't be read: maximum recursion depth"):
        read_settings(tmp_path / "run.yaml", kinds())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.yaml", f"epochs: {'9' * 5000}\n", "is not valid YAML: Exceeds the limit"),
        ("run.toml", f"epochs = {'9' * 5000}\n", "can't be read: Exceeds the limit"),
        ("run.yaml", "epochs: 2001-99-99\n", "is not valid YAML: month must be in"),
        ("run.yaml", f"learning_rate: {'9' * 400}\n", "a number is needed"),
        (
            "run.yaml",
            "batch_size: &a [*a]\n",
            "batch_size is a list that can't be shown; a whole number is needed",
        ),
    ],
)
def test_values_of_settings_that_are_beyond_python(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_settings(tmp_path / name, kinds())


def test_a_cached_array_whose_head_is_of_python_2() -> None:
    [seed] = cache_seeds()
    damaged = seed.replace(b"(2, 5)", b"(2L,5)")
    assert damaged != seed
    TARGETS["cache"].check(damaged)


def test_a_lexicon_with_a_number_of_thousands_of_digits(tmp_path: Path) -> None:
    (tmp_path / "words.yaml").write_text(f"colour: {'9' * 5000}\n")
    with pytest.raises(InputError, match="is not valid YAML: Exceeds the limit"):
        read_lexicon(tmp_path / "words.yaml")


def test_a_tokenizer_that_lacks_its_own_unknown_token() -> None:
    """It can be read, and fails at the first word that it doesn't know."""
    text = tokenizer_json().replace('"[UNK]":0', '"[UNX]":0').replace('"[UNK]": 0', '"[UNX]": 0')
    tokenizer = Tokenizer(text_spec(text))
    for encode in (lambda: tokenizer(["a hat"]), lambda: tokenizer.beyond("a hat")):
        with pytest.raises(InputError, match="can't encode texts"):
            encode()


def parquet(path: Path, column: str, text: str) -> bytes:
    """The bytes of a table with one row, uncompressed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"image_path": ["a.jpg"], column: [text]}),
        path,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
    )
    return path.read_bytes()


def test_parquet_whose_texts_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(parquet(path, "text", "a red shoe").replace(b"a red shoe", b"a red sho\xe0"))
    with pytest.raises(InputError, match="can't be read as a Parquet file: 'utf-8' codec"):
        list(read_rows(path, require_label=False))


def test_parquet_whose_column_names_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(parquet(path, "colour", "red").replace(b"colour", b"colou\xe0"))
    with pytest.raises(InputError, match="can't be read as a Parquet file"):
        read_header(path, require_label=False)


@pytest.mark.parametrize("kind", ["head", "float64"])
def test_a_cached_array_with_a_damaged_head_is_passed_over(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 5), np.float32 if kind == "head" else np.float64))
    (tmp_path / "ab").mkdir()
    data = buffer.getvalue()
    (tmp_path / "ab" / "1.npy").write_bytes(
        data.replace(b"'fortran_order': False, ", b"'fortran_or\n\n\n\n(((((((((")
        if kind == "head"
        else data
    )
    (tmp_path / "ab" / "1.keys").write_bytes(bytes(range(32)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert EmbeddingCache(tmp_path, "ab").get_many([bytes(range(16))]) == {}
