"""mismatch.io.outputs: whatever a command is asked to write, no input, no model's file and nothing
that a user made is replaced.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mismatch.cli import command_paths, main
from mismatch.errors import CheckpointError, InputError
from mismatch.io.outputs import (
    SOFTWARE,
    OutputKind,
    check_cache,
    check_outputs,
    json_report,
    model_folder_of,
    page,
    picture,
    refuse_model_folder,
    text_file,
)
from mismatch.io.reading import LARGEST_JSON
from mismatch.jobs.table_kinds import exact_table
from tests.support.commands import run

CHECKPOINT = {"format_version": 1, "head": {}, "score": {}}
BUNDLE = {"format_version": 1, "image_spec": {}, "text_spec": {}, "files": {}}
ROWS = "image_path,text,label\na.png,red,1\nb.png,blue,0\n"
# Every command that writes: what stands before the output, for a file (F) or a folder (D). Endings
# decide the format where there are several.
FILES = {
    "predict": (
        ("predict", "--model", "none", "--csv", "rows.csv", "--output"),
        (".csv", ".jsonl", ".parquet"),
    ),
    "explain": (("explain", "--model", "none", "--csv", "rows.csv", "--output"), (".json",)),
    "explain one": (
        ("explain", "--model", "none", "--image", "a.png", "--text", "red", "--output"),
        (".json", ".png"),
    ),
    "audit-labels": (
        ("audit-labels", "--model", "none", "--csv", "rows.csv", "--output"),
        (".csv",),
    ),
    "audit-labels --report": (
        ("audit-labels", "--model", "none", "--csv", "rows.csv", "--output", "o.csv", "--report"),
        (".html",),
    ),
    "validate --report": (("validate", "rows.csv", "--report"), (".html", ".json")),
    "validate --fix": (("validate", "rows.csv", "--fix"), (".csv",)),
    "make-negatives": (("make-negatives", "rows.csv", "--output"), (".csv",)),
    "benchmark": (("benchmark", "--model", "none", "--csv", "rows.csv", "--json"), (".json",)),
}
FOLDERS = {
    "predict --engine ray": (
        "predict",
        "--model",
        "none",
        "--csv",
        "rows.csv",
        "--engine",
        "ray",
        "--output",
    ),
    "predict --cache": ("predict", "--model", "hf-clip:tiny", "--csv", "rows.csv", "--cache"),
    "explain": ("explain", "--model", "none", "--csv", "rows.csv", "--output"),
    "evaluate": ("evaluate", "--model", "none", "--csv", "rows.csv", "--report"),
    "split": ("split", "rows.csv", "--overwrite", "--output-dir"),
    "calibrate": ("calibrate", "--model", "none", "--csv", "rows.csv", "--output"),
    "export-onnx": ("export-onnx", "--model", "none", "--output"),
    "export-onnx --triton": ("export-onnx", "--model", "none", "--output", "o", "--triton"),
    "train": (
        "train",
        "--backbone",
        "hf-clip",
        "--model-name",
        "tiny",
        "--train-csv",
        "rows.csv",
        "--output-dir",
    ),
    "quickstart": ("quickstart", "--dir"),
    "backbones new": ("backbones", "new", "my-towers", "--dir"),
}
FOREIGN = {
    "notes": b"what I have thought of\n",
    "another table": b"id,price\n1,2\n",
    "rows to train on": b"image_path,text,label\na.png,red,1\n",
    "another JSON file": b'{"model_type": "clip"}\n',
    "another page": b"<!DOCTYPE html>\n<title>Mine</title>\n",
    "a photo": b"",
    "a table of Parquet": b"PAR1 price PAR1",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with rows, two pictures, a checkpoint and a bundle."""
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text(ROWS)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8), "red").save(name)
    for folder, name, content in (
        ("checkpoint", "mismatch.json", CHECKPOINT),
        ("bundle", "manifest.json", BUNDLE),
    ):
        Path(folder).mkdir()
        Path(folder, name).write_text(json.dumps(content))
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(place: Path, args: tuple[str, ...]) -> str:
    """What a command says; nothing may have changed."""
    before = contents(place)
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert contents(place) == before
    return result.stderr


def file_cases() -> Iterator[tuple[str, str]]:
    yield from ((name, ending) for name, (_, endings) in FILES.items() for ending in endings)


@pytest.mark.parametrize(("name", "ending"), list(file_cases()))
@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_file_of_another_kind_is_never_replaced(
    place: Path, name: str, ending: str, foreign: str
) -> None:
    content = FOREIGN[foreign] or Path("b.png").read_bytes()
    Path(f"mine{ending}").write_bytes(content)
    assert f"mine{ending}" in refused(place, (*FILES[name][0], f"mine{ending}"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "target",
    [
        "checkpoint/mismatch.json",
        "bundle/manifest.json",
        "checkpoint/new",
        "bundle/new",
        "bundle/deeper/new",
    ],
)
def test_no_file_is_written_into_a_model(place: Path, name: str, target: str) -> None:
    args, endings = FILES[name]
    for ending in endings:
        target = target if Path(target).suffix else f"{target}{ending}"
        assert "model" in refused(place, (*args, target))


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("target", ["checkpoint", "checkpoint/new", "bundle/new"])
def test_no_folder_is_written_into_a_model(place: Path, name: str, target: str) -> None:
    said = refused(place, (*FOLDERS[name], target))
    assert target in said
    assert "none" not in said, "before a model is looked for"


@pytest.mark.parametrize(
    "name", [name for name in FILES if name not in ("explain one", "audit-labels --report")]
)
def test_no_input_is_replaced(place: Path, name: str) -> None:
    assert "rows.csv" in refused(place, (*FILES[name][0], "rows.csv"))
    Path("link.csv").symlink_to("rows.csv")
    refused(place, (*FILES[name][0], "link.csv"))


@pytest.mark.parametrize("name", ["report.html", "report.json", "predictions.csv"])
def test_a_report_replaces_nothing_in_its_folder(place: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    Path("o").mkdir()
    Path("o", name).write_text("mine")
    assert name in refused(place, (*FOLDERS["evaluate"], "o"))


@pytest.mark.parametrize("name", ["explanation.png", "explanations.json", "001-line-2.png"])
def test_an_explanation_replaces_nothing_in_its_folder(place: Path, name: str) -> None:
    Path("o").mkdir()
    Path("o", name).write_text("mine")
    assert name in refused(place, (*FOLDERS["explain"], "o"))


@pytest.mark.parametrize("name", ["manifest.json", "progress.jsonl", "part-00000.parquet"])
def test_parts_replace_nothing_in_their_folder(place: Path, name: str) -> None:
    Path("o").mkdir()
    Path("o", name).write_text('{"name": "mine"}')
    assert name in refused(place, (*FOLDERS["predict --engine ray"], "o"))


@pytest.mark.parametrize("name", ["o.csv.part", "o.csv.part.json", ".o.csv.lock"])
def test_a_file_that_has_the_name_of_a_part_or_a_lock_stays(
    place: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(name).write_text("mine")
    monkeypatch.chdir(place)
    Path("rows.csv").write_text(ROWS)
    said = refused(
        place,
        (
            "predict",
            "--model",
            "hf-clip:tiny",
            "--csv",
            "rows.csv",
            "--output",
            "o.csv",
            "--threads",
            "1",
        ),
    )
    assert f"{name} is in the way" in said


HAND_MADE = (
    "image_path,text,label,kind,notes",
    "labels,mankind",
    "image_path,text,label,kind",
    "image_path,text,label",
)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("header", HAND_MADE[:2])
@pytest.mark.parametrize("name", ["make-negatives", "validate --fix"])
def test_a_table_that_looks_like_one_is_not_replaced(
    place: Path, name: str, header: str, overwrite: bool
) -> None:
    Path("mine.csv").write_text(f"{header}\n1,2,3,4,5\n")
    Path("mine.rejected.csv").write_text("")
    assert "mine.csv" in refused(
        place, (*FILES[name][0], "mine.csv", *(["--overwrite"] * overwrite))
    )


@pytest.mark.parametrize("header", HAND_MADE)
@pytest.mark.parametrize("name", ["make-negatives", "validate --fix"])
def test_rows_to_train_on_are_replaced_when_that_is_asked_for(
    place: Path, name: str, header: str
) -> None:
    values = ["a.png", "red", "1", "match", "mine"][: header.count(",") + 1]
    Path("mine.csv").write_text(f"{header}\n{','.join(values)}\n")
    said = refused(place, (*FILES[name][0], "mine.csv"))
    assert "mine.csv is there already" in said
    written = HAND_MADE[2] if name == "make-negatives" else HAND_MADE[3]
    assert ("--overwrite" in said) or header != written


@pytest.mark.parametrize(
    "content", ["precious\n", "reason\nmine\n", "image_path,text,label,reason\n"]
)
def test_somebodys_rejected_rows_stay(place: Path, content: str) -> None:
    Path("mine.rejected.csv").write_text(content)
    for overwrite in ([], ["--overwrite"]):
        assert "mine.rejected.csv" in refused(
            place, ("validate", "rows.csv", "--fix", "mine.csv", *overwrite)
        )


def test_one_name_for_two_outputs_is_refused(place: Path) -> None:
    assert "both" in refused(place, ("validate", "rows.csv", "--fix", "o.csv", "--report", "o.csv"))
    assert "both" in refused(
        place, ("validate", "rows.csv", "--report", "o.json", "--report", "./o.json")
    )
    assert "both" in refused(
        place, ("validate", "rows.csv", "--fix", "o.csv", "--report", "o.rejected.csv")
    )
    assert "both" in refused(
        place,
        (
            "audit-labels",
            "--model",
            "none",
            "--csv",
            "rows.csv",
            "--output",
            "o",
            "--report",
            "./o",
        ),
    )


def test_every_option_that_names_an_output_is_tried_here() -> None:
    tried = {
        word
        for args in (*(args for args, _ in FILES.values()), *FOLDERS.values())
        for word in args
        if word.startswith("--")
    }
    known = {
        "--output",
        "--output-dir",
        "--report",
        "--fix",
        "--json",
        "--cache",
        "--triton",
        "--dir",
    }
    assert known <= tried
    for path in command_paths():
        command: click.Command = main
        for name in path:
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), name) or main
        writing = [
            opt
            for param in command.params
            for opt in param.opts
            if any(word in opt for word in ("output", "report", "fix", "save", "reject"))
        ]
        assert set(writing) <= known, f"{path}: is {writing} guarded by check_outputs?"


def signed(**told: str) -> bytes:
    held, info = io.BytesIO(), PngInfo()
    for key, value in told.items():
        info.add_text(key, value)
    Image.new("RGB", (8, 8)).save(held, "PNG", pnginfo=info)
    return held.getvalue()


@pytest.mark.parametrize(
    ("kind", "older"),
    [
        (exact_table("a table", lambda: ["id", "score"]), b"id,score\n1,2\n"),
        (json_report("a report", ("ok",)), b'{\n  "ok": true\n}\n'),
        (json_report("a report", ("ok",)), b"[]\n"),
        (
            json_report("a report", ("ok",), ("text",)),
            b'[{"text": "' + b"long " * 100_000 + b'", "ok": true}]',
        ),
        (text_file("a text", "# ours"), b"# ours\n"),
        (page("a page", "<title>Audit</title>"), b"<!DOCTYPE html>\n<title>Audit</title>\n"),
        (picture("a picture"), signed(**dict([SOFTWARE]))),
    ],
)
def test_an_older_output_of_its_kind_and_an_empty_file_are_replaced(
    tmp_path: Path, kind: OutputKind, older: bytes
) -> None:
    for content in (older, b""):
        (tmp_path / "o").write_bytes(content)
        check_outputs([("--output", tmp_path / "o", kind)])


@pytest.mark.parametrize(
    "content",
    [
        b'{"text": "ok"}',
        b'{"inner": {"ok": true}}',
        b'["ok"]',
        b'"ok"',
        b'{"ok": true',
        b'{"ok": true, "note": "asked the supplier"}',
        b'[{"ok": true}, {"ok": true, "note": "asked the supplier"}]',
        b'[[{"ok": 1}]]',
        b"[" * 100_000,
    ],
)
def test_words_in_a_json_file_make_no_report(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "o.json").write_bytes(content)
    with pytest.raises(InputError, match=r"o\.json is there already"):
        check_outputs([("--output", tmp_path / "o.json", json_report("a report", ("ok",)))])


def test_a_photo_is_no_picture_of_ours(tmp_path: Path) -> None:
    for content in (signed(), signed(Software="Paint"), b"Software\0mismatch"):
        (tmp_path / "o.png").write_bytes(content)
        with pytest.raises(InputError, match=r"o\.png is there already"):
            check_outputs([("--output", tmp_path / "o.png", picture("a picture"))])


def test_a_device_may_be_written_to() -> None:
    check_outputs([("--output", Path("/dev/null"), exact_table("a table", lambda: ["id"]))])


def test_what_is_called_like_a_models_file_but_is_none_makes_no_model(tmp_path: Path) -> None:
    for content in ("{}", "[]", "{", '{"name": "an app"}', '{"hosts": []}'):
        for name in ("mismatch.json", "manifest.json"):
            (tmp_path / name).write_text(content)
            refuse_model_folder(tmp_path / "o.csv", "--output")


@pytest.mark.parametrize("name", ["mismatch.json", "manifest.json"])
def test_a_file_too_large_for_a_models_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    read: list[int] = []
    real = json.loads

    def loads(text: str) -> Any:
        read.append(len(text))
        return real(text)

    monkeypatch.setattr(json, "loads", loads)
    with (tmp_path / name).open("wb") as file:
        file.truncate(LARGEST_JSON + 1)
    refuse_model_folder(tmp_path / "o.csv", "--output")
    assert read == []


def test_the_model_is_found_through_links(place: Path) -> None:
    Path("link").symlink_to("bundle")
    assert model_folder_of(Path("link/a/b")) == place.resolve() / "bundle"
    assert model_folder_of(place) is None
    with pytest.raises(CheckpointError, match=r"--output link/o\.csv lies in the model"):
        refuse_model_folder(Path("link/o.csv"), "--output")


def test_a_folder_of_embeddings_has_no_output_s_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`cache` and `report` are both"):
        check_cache(tmp_path / "a" / ".." / "x", [("`output`", None), ("`report`", tmp_path / "x")])
    check_cache(None, [("`output`", tmp_path / "x")])
    check_cache(tmp_path / "y", [("`output`", tmp_path / "x")])
