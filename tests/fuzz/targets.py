"""What is fuzzed: readers of what strangers write. Each takes any bytes and must give a result or
one line of MismatchError, and nothing else.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import mismatch
from benchmarks import hostile_pictures as hostile
from mismatch.data.columns import Columns
from mismatch.data.lexicon import Lexicon
from mismatch.data.pairs import read_header, read_rows, reading_remark, scan_rows, source_digest
from mismatch.errors import MismatchError
from mismatch.io.atomic import sealed
from mismatch.io.reading import read_json
from mismatch.jobs.lexicon_file import read_lexicon
from mismatch.runtime.bundle import MANIFEST, looks_like_bundle, read_bundle
from mismatch.runtime.cache import EmbeddingCache
from mismatch.runtime.graph_file import check_self_contained, read_graph
from mismatch.runtime.preprocess import ImageLimits, Preprocessor
from mismatch.runtime.tokenize import Tokenizer
from mismatch.serving.configuration import Settings
from mismatch.serving.images import FORMATS as SERVED
from mismatch.serving.images import from_base64
from mismatch.specs import HeadSpec, ImageSpec, ScoreSpec, TextSpec
from mismatch.training.checkpoint import META, read_meta
from mismatch.training.config import TrainConfig, kinds
from mismatch.training.settings import read_settings
from tests.support.paths import BUNDLE

__all__ = ["TARGETS", "Target", "one_line"]

LONGEST = 1000  # characters of an error's line
SPEC = ImageSpec(size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
BOUNDARY = b"mismatch-fuzz"  # between the parts of a form
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "PCX")


@dataclass(frozen=True)
class Target:
    """A reader, and inputs that it likes, to begin with."""

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]

    def check(self, data: bytes) -> None:
        """Raises where the reader does anything but give a result or one line of MismatchError."""
        with one_line():
            self.read(data)


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """MismatchError of one line passes; other errors, and warnings, do not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except MismatchError as error:
        if not str(error).strip():
            raise AssertionError("an error without words") from error


@cache
def folder() -> Path:
    """Where inputs are put that a reader takes by their path."""
    keeper = tempfile.TemporaryDirectory(prefix="mismatch-fuzz-")
    folder.keeper = keeper  # type: ignore[attr-defined]  # removed when the process ends
    return Path(keeper.name)


def written(name: str, data: bytes) -> Path:
    """The input as a file."""
    path = folder() / name
    path.write_bytes(data)
    return path


def rows(kind: str) -> Callable[[bytes], None]:
    """All that reads a table of that kind."""
    labelled = kind != "token"  # captions have none

    def read(data: bytes) -> None:
        path = written(f"rows.{kind}", data)
        for columns in (Columns(), Columns(multi_image="best", inside=str(folder()))):
            with one_line():
                read_header(path, require_label=False, columns=columns, aliases=True)
            with one_line():
                for row in read_rows(path, require_label=labelled, columns=columns):
                    has_label = not labelled or row.label in (0, 1)
                    assert row.problem or (
                        row.text.strip() and row.image_path.strip() and has_label
                    ), row
                    # what is given out can be written
                    json.dumps(row.columns, ensure_ascii=False).encode()
        with one_line():
            list(scan_rows(path, lambda line, words: None, require_label=labelled))
        with one_line():
            reading_remark(path)
        source_digest(path)

    return read


def json_seeds() -> list[bytes]:
    """Return arrays of objects, and captions in COCO's form."""
    record = {"image_path": "red.png", "text": "red \u00e9", "label": 1, "more": [1, {"a": None}]}
    images = [{"id": 1, "file_name": "red.png"}, {"id": "b", "file_name": "blue.png"}]
    notes = [
        {"image_id": 1, "caption": "red", "label": 1},
        {"image_id": "b", "id": 3, "caption": 'blue, 5"', "label": 0},
    ]
    coco = {"info": {}, "images": images, "licenses": [], "annotations": notes}
    backwards = dict(reversed(coco.items()))
    seeds = [json.dumps(value) for value in ([record] * 3, [], coco, backwards)]
    return [seed.encode() for seed in [*seeds, json.dumps(coco, indent=1)]]


def caption_seeds() -> list[bytes]:
    """Return captions in Flickr's form, and others that no ending tells."""
    lines = 'red.png#0\ta red one, "so"\nred.png#1\tréd\n\nblue.png#0\tblue\n'
    bars = 'image_name| comment_number| comment\nred.png| 0| a "red" one\n'
    return [lines.encode(), lines.encode("utf-16"), bars.encode(), b"file;title\na;b\n"]


def csv_seeds() -> list[bytes]:
    """Tables of commas: plain, quoted, of several lines, without a label, in Windows' ways."""
    head = "image_path,text,label\n"
    texts = (
        f'{head}a.jpg,red shoe,1\nb.jpg,"a, ""b""",0\n',
        f'{head}a.jpg,"two\nlines",1\n',
        "image,caption\r\na.jpg,x\r\n",
        f"\ufeff{head}../a.jpg;b.jpg,é,1\n",
        "",
    )
    return [text.encode() for text in texts]


def json_lines_seeds() -> list[bytes]:
    """JSON lines: plain, with lists, numbers, nothing."""
    row = {"image_path": "a.jpg", "text": "red shoe", "label": 1}
    found: list[dict[str, Any]] = [
        row,
        row | {"image_path": ["a.jpg", "b.jpg"], "more": {"a": [1.5, None]}},
        row | {"label": "0", "text": "\u00e9\n"},
    ]
    return [
        "".join(json.dumps(item) + "\n" for item in found).encode(),
        json.dumps(row).encode(),
        b"[]",
    ]


def parquet_seeds() -> list[bytes]:
    """Parquet with a column of each needed kind."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(
        pa.table({"image_path": ["a.jpg", "b.jpg"], "text": ["red", None], "label": [1, 0]}), buffer
    )
    return [buffer.getvalue()]


def image_seeds() -> list[bytes]:
    """A small picture in each format."""
    found, pixels = [], np.arange(20 * 24 * 3, dtype=np.uint8).reshape(20, 24, 3)
    for name in FORMATS:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, name)
        found.append(buffer.getvalue())
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif, progressive=True)
    bounded = [
        hostile.jpeg_of_scans(16, 70),
        hostile.jpeg_of_tags(20),
        hostile.gif_of_comments(5),
        hostile.png_of_chunks(5),
        hostile.tiff_of_tile(64),
        hostile.tiff_of_tags(20),
        hostile.tiff_of_pages(3),
        hostile.bmp_of_runs(20),
    ]
    return [*found, buffer.getvalue(), *bounded]


def read_image(data: bytes) -> None:
    """As commands read it, then as the service does."""
    with one_line():
        assert np.isfinite(Preprocessor(SPEC)(data)).all()
    with one_line():
        Preprocessor(SPEC).local_picture(data, limits=ImageLimits(SERVED, 10**6))
    from_base64(data.decode("latin-1"), max_bytes=2**16)


def tokenizer_json() -> str:
    """A word tokenizer of a few words."""
    import tokenizers

    model = tokenizers.models.WordLevel({"[UNK]": 0, "red": 1, "shoe": 2}, unk_token="[UNK]")
    found = tokenizers.Tokenizer(model)
    found.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return str(found.to_str())


def tokenizer_seeds() -> list[bytes]:
    """That tokenizer, and one with a replacement, an expression and special tokens."""
    more = json.loads(tokenizer_json())
    more["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}],
    }
    more["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"Regex": r"(\w+|\s)"},
        "behavior": "Isolated",
        "invert": False,
    }
    sequence, special = (
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "X", "type_id": 0}},
    )
    tokens = {"X": {"id": "X", "ids": [1], "tokens": ["X"]}}
    pair = [sequence, {"Sequence": {"id": "B", "type_id": 0}}]
    more["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [special, sequence],
        "pair": pair,
        "special_tokens": tokens,
    }
    return [tokenizer_json().encode(), json.dumps(more).encode()]


def text_spec(text: str, cleaning: Any = "clip") -> TextSpec:
    """Of that tokenizer.json."""
    return TextSpec(
        context_length=8, pad_id=0, padding="longest", cleaning=cleaning, tokenizer_json=text
    )


def read_tokenizer(data: bytes) -> None:
    """The input as tokenizer.json."""
    Tokenizer(text_spec(data.decode("utf-8", "replace")))(["a red shoe", ""])


@cache
def whole_tokenizer(cleaning: str) -> Tokenizer:
    """One that texts are given to."""
    return Tokenizer(text_spec(tokenizer_json(), cleaning))


def read_text(data: bytes) -> None:
    """The input as a text, halves of characters included."""
    text = (
        data.decode("utf-8", "surrogatepass" if b"\xed" in data else "replace")
        if _decodes(data)
        else data.decode("latin-1")
    )
    for cleaning in ("none", "clip", "whitespace", "canonicalize"):
        tokenizer = whole_tokenizer(cleaning)
        assert tokenizer([text]).input_ids.shape[1] <= 8
        tokenizer.beyond(text)
    Lexicon().find(text)


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return b"\xed" not in data
    return True


def read_specs(data: bytes) -> None:
    """The input as the JSON of a manifest's parts."""
    found = read_json(written("any.json", data))
    for kind, more in (
        (ImageSpec, {}),
        (TextSpec, {"tokenizer_json": tokenizer_json()}),
        (HeadSpec, {}),
        (ScoreSpec, {}),
    ):
        # both are caught where manifests are read
        with contextlib.suppress(TypeError, AttributeError), one_line():
            kind.from_dict(found, **more)


def specs_seeds() -> list[bytes]:
    """A spec of each kind, as JSON."""
    specs = (
        SPEC.to_dict(),
        {"context_length": 8, "pad_id": 0, "padding": "longest", "cleaning": "clip"},
        {"kind": "cosine", "version": 1},
        {"temperature": 1.0, "bias": 0.5},
    )
    return [json.dumps(spec).encode() for spec in specs]


def read_manifest(data: bytes) -> None:
    """The input as manifest.json, with the checksum that belongs to it where it is an object."""
    path = written(MANIFEST, data)
    looks_like_bundle(folder())
    with one_line():
        read_bundle(folder())
    found = read_json(path)
    if isinstance(found, dict):
        path.write_text(json.dumps(sealed(found)))
        read_bundle(folder())


def manifest_seeds() -> list[bytes]:
    """One of our format, of no files."""
    spec = {
        "format_version": 1,
        "mismatch_version": "0",
        "backbone": {},
        "image_spec": SPEC.to_dict(),
        "text_spec": {},
        "head": {},
        "score": {},
        "files": {},
    }
    return [json.dumps(spec).encode(), b'{"format_version": 1, "files": []}']


def read_note(data: bytes) -> None:
    """The input as a checkpoint's mismatch.json, with the checksum that belongs to it where it is
    an object.
    """
    path = written(META, data)
    with one_line():
        read_meta(folder())
    found = read_json(path)
    if isinstance(found, dict):
        path.write_text(json.dumps(sealed(found)))
        read_meta(folder())


def note_seeds() -> list[bytes]:
    """One of our format."""
    backbone = {"family": "hf-clip", "model_id": "tiny", "image_width": 4, "text_width": 4}
    head = {
        "kind": "cosine",
        "version": 1,
        "common_dim": 4,
        "hidden_dim": 4,
        "dropout": 0.1,
        "members": 1,
    }
    score = {
        "temperature": 1.0,
        "bias": 0.5,
        "threshold": 0.5,
        "long_text": "truncate",
        "slices": {"column": "shop", "thresholds": {"a": 0.4}},
    }
    note = {
        "format_version": 1,
        "mismatch_version": "0",
        "backbone": backbone,
        "head": head,
        "score": score,
        "train": {},
        "files": {},
    }
    return [json.dumps(note).encode(), b'{"format_version": 1, "backbone": []}']


def read_words(data: bytes) -> None:
    """The input as --lexicon."""
    lexicon = Lexicon(read_lexicon(written("words.yaml", data)))
    for found in lexicon.find("a red leather shoe and two blue hats"):
        list(lexicon.alternatives(found))


@cache
def service() -> Any:
    """A client of the service, of a bundle that is kept; it ends with the process."""
    from fastapi.testclient import TestClient

    from mismatch.serving.app import create_app

    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    settings = Settings(model=str(BUNDLE), max_body=2**18, max_image=2**17, threads=1)
    client = TestClient(
        create_app(settings, {"default": mismatch.load(BUNDLE, threads=1)}),
        raise_server_exceptions=False,
    )
    client.__enter__()
    return client


def read_body(data: bytes) -> None:
    """The input as the body of each kind of request, as JSON and as a form: an answer, or a refusal
    in one line that says why; never a fault of ours.
    """
    form = b"multipart/form-data; boundary=" + BOUNDARY
    kind = form if data.startswith(b"--") else b"application/json"
    # starlette leaves the file of a form that breaks off to the collector
    warnings.simplefilter("ignore", ResourceWarning)
    for path in ("/v1/predict", "/v1/predict/batch", "/v1/explain"):
        answer = service().post(path, content=data, headers={b"content-type": kind})
        assert answer.status_code < 500, (path, answer.status_code, answer.text)
        said = answer.json()
        assert answer.status_code == 200 or (
            said["status"] == answer.status_code
            and said["detail"].strip()
            and "Traceback" not in answer.text
        ), said


def body_seeds() -> list[bytes]:
    """A pair and a batch as JSON, a pair as a form."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    picture = base64.b64encode(buffer.getvalue()).decode()
    pair = {"image": picture, "text": "red", "slice_value": None}
    batch = {
        "images": {"a": picture},
        "texts": {"b": "red", "c": "blue"},
        "pairs": [{"image": "a", "text": "b"}, {"image": "a", "text": "c"}],
    }
    part = b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    file = (
        b"--"
        + BOUNDARY
        + b'\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type:'
        b" image/png\r\n\r\n%s\r\n"
    )
    form = file % buffer.getvalue() + part % (b"text", b"red") + b"--" + BOUNDARY + b"--\r\n"
    return [json.dumps(pair).encode(), json.dumps(batch).encode(), form]


def read_yaml(data: bytes) -> None:
    """The input as --config, in both forms."""
    for name in ("run.yaml", "run.toml"):
        with one_line():
            TrainConfig(
                **{"train_csv": "t.csv", "val_csv": "v.csv"}
                | read_settings(written(name, data), kinds())
            )


def read_serving(data: bytes) -> None:
    """The input as the service's settings."""
    Settings.read(written("serve.json", data))


def read_cache(data: bytes) -> None:
    """The input as a segment of the cache and its keys."""
    space = folder() / "cache" / "ab"
    space.mkdir(parents=True, exist_ok=True)
    cut = len(data) % 48
    (space / "1.keys").write_bytes(data[:cut])
    (space / "1.npy").write_bytes(data[cut:])
    cache_ = EmbeddingCache(folder() / "cache", "ab")
    found = cache_.get_many([data[at : at + 16] for at in range(0, cut - 15, 16)])
    assert all(np.isfinite(array).all() or array.dtype == np.float32 for array in found.values())


def cache_seeds() -> list[bytes]:
    """An array of two rows behind keys."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 5), np.float32))
    return [
        bytes(range(32)) + buffer.getvalue() + b"\0" * (-(len(buffer.getvalue()) + 32) % 48 + 32)
    ]


def check_graph(data: bytes) -> None:
    """The input as an ONNX file, which both readers must judge alike; it is not given to
    onnxruntime.
    """
    path = written("any.onnx", data)
    try:
        check_self_contained(path)
    except MismatchError as error:
        with contextlib.suppress(MismatchError):
            read_graph(path)
            raise AssertionError("one reader refuses what the other takes") from error
        raise
    assert read_graph(path) == data


def graph_seeds() -> list[bytes]:
    """A graph with a tensor, written by hand: graph (7) → initializer (5) → name, raw data."""
    tensor = b"\x42\x01w\x4a\x04\0\0\0\0"
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    return [b"\x08\x08\x3a" + bytes([len(graph)]) + graph]


TARGETS = {
    "csv": Target(rows("csv"), csv_seeds),
    "tsv": Target(rows("tsv"), lambda: [seed.replace(b",", b"\t") for seed in csv_seeds()]),
    "jsonl": Target(rows("jsonl"), json_lines_seeds),
    "json": Target(rows("json"), json_seeds),
    "captions": Target(rows("token"), caption_seeds),
    "parquet": Target(rows("parquet"), parquet_seeds),
    "images": Target(read_image, image_seeds),
    "tokenizer": Target(read_tokenizer, tokenizer_seeds),
    "texts": Target(read_text, lambda: [b"Red &amp; shoe", "é\u200d👟".encode(), b"\xed\xa0\x80"]),
    "specs": Target(read_specs, specs_seeds),
    "manifest": Target(read_manifest, manifest_seeds),
    "note": Target(read_note, note_seeds),
    "lexicon": Target(
        read_words,
        lambda: [b"colour: [red, blue]\nmaterial:\n  - leather\n", b"a: {b: c}\n", b"colour: 3\n"],
    ),
    "bodies": Target(read_body, body_seeds),
    "config": Target(
        read_yaml,
        lambda: [b"epochs: 3\nbatch_size: 8\n", b'epochs = 3\ntune = "head"\n', b"a: &a [*a]\n"],
    ),
    "serving": Target(
        read_serving,
        lambda: [
            (
                b'{"model": "m", "max_body": 5, "tokens": ["0123456789abcdef"], "fetch_networks":'
                b' ["10.1.0.0/16"]}'
            )
        ],
    ),
    "cache": Target(read_cache, cache_seeds),
    "graph": Target(check_graph, graph_seeds),
}
