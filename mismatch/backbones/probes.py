"""How the contract kit looks at a backbone: its towers on sample inputs, how far results lie apart,
weights on disk, graphs, new processes.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mismatch.backbones import samples
from mismatch.backbones.base import Backbone
from mismatch.backbones.graphs import write_image_encoder, write_text_encoder
from mismatch.backbones.int8 import quantize
from mismatch.errors import ContractError, MismatchError
from mismatch.runtime.preprocess import Preprocessor
from mismatch.runtime.sessions import Graph
from mismatch.runtime.tokenize import TokenBatch, Tokenizer
from mismatch.specs import ImageSpec, TextSpec

__all__ = [
    "CLOSE",
    "NEAR",
    "SAME",
    "ImageProbe",
    "LevelsProbe",
    "Probe",
    "TextLevelsProbe",
    "TextProbe",
    "article",
    "asked",
    "changed_fields",
    "changed_weights",
    "check_parity",
    "check_specs",
    "check_tensors",
    "distance",
    "fail",
    "gradient_of",
    "graph_of",
    "in_new_process",
    "load_back",
    "one_line",
    "pad_to_context",
    "percent",
    "pixels_of",
    "probes_of",
    "saved",
    "skip",
    "spread",
    "thawed",
    "to_numpy",
    "unit",
]

Array = NDArray[np.float32]

# How far two results that should be equal may lie apart, as a share of how far the embeddings of
# unlike inputs do (see `distance`).
SAME = 1e-5  # the same weights and inputs, computed again
CLOSE = 2e-3  # the same row in another batch, of another length, in another engine
LONGEST = 240  # letters of an error of torch or onnxruntime that are quoted
NEAR = 3e-2  # upstream's own path, whose resizing may differ by a level of 255


def fail(message: str) -> NoReturn:
    """Raise ContractError."""
    raise ContractError(message)


def skip(reason: str) -> NoReturn:
    """Leave the running check, which then counts as skipped."""
    raise unittest.SkipTest(reason)  # which pytest takes for its own


def one_line(error: Exception) -> str:
    """An error in one line, with its type unless it is one of ours."""
    text = " ".join(str(error).split())
    return text if isinstance(error, MismatchError) else f"{type(error).__name__}: {text}"


def article(name: str) -> str:
    """`int` → `an int`."""
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def percent(gap: float) -> str:
    """A `distance` for people."""
    if not math.isfinite(gap):
        return "nan or infinity"
    return "wholly" if gap > 1 else f"by {gap:.1%} of how far unlike inputs lie apart"


# --- towers and how far results lie apart


# a checkpoint's own files
OURS = frozenset({"classification_head.safetensors", "mismatch.json", "training_stats.json"})


class Probe(ABC):
    """A tower and sample inputs for it."""

    def __init__(
        self,
        name: str,
        function: Callable[..., Tensor],
        declared: str,
        width: int,
        *inputs: NDArray[Any],
    ) -> None:
        """`inputs`: (B, …) each; `width` is what `declared`, an attribute of the backbone, says."""
        self.name = name
        self.function = function
        self.declared = declared
        self.width = width
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.inputs[0])

    def __call__(self, rows: slice | list[int] = slice(None)) -> Tensor:
        """The chosen rows' embeddings, with their graph; ContractError where the tower fails."""
        return _called(self.name, self.function, *(array[rows] for array in self.inputs))

    def embed(self, rows: slice | list[int] = slice(None)) -> Array:
        """(B, width), without a graph."""
        with torch.inference_mode():
            return to_numpy(self(rows))

    @property
    @abstractmethod
    def feeds(self) -> dict[str, NDArray[Any]]:
        """The inputs by the names that they have in a graph."""


class ImageProbe(Probe):
    """An image tower and its input (B, 3, S, S)."""

    def __init__(
        self, backbone: Backbone, pixel_values: Array, *, name: str = "encode_image"
    ) -> None:
        super().__init__(name, backbone.encode_image, "image_dim", backbone.image_dim, pixel_values)

    @property
    def feeds(self) -> dict[str, NDArray[Any]]:
        return {"pixel_values": self.inputs[0]}


class LevelsProbe(ImageProbe):
    """`image_levels` and its input (B, 3, S, S)."""

    def __init__(self, backbone: Backbone, pixel_values: Array) -> None:
        super().__init__(backbone, pixel_values, name="image_levels")
        self.function = backbone.image_levels
        self.declared = "levels_dim"
        self.width = backbone.levels_dim


class TextLevelsProbe(Probe):
    """`text_levels` and its input, (B, L) twice."""

    def __init__(self, backbone: Backbone, batch: TokenBatch) -> None:
        super().__init__(
            "text_levels",
            backbone.text_levels,
            "text_levels_dim",
            backbone.text_levels_dim,
            batch.input_ids,
            batch.attention_mask,
        )

    @property
    def feeds(self) -> dict[str, NDArray[Any]]:
        return {"input_ids": self.inputs[0], "attention_mask": self.inputs[1]}


class TextProbe(Probe):
    """A text tower and its input, (B, L) twice."""

    def __init__(self, backbone: Backbone, batch: TokenBatch, *, name: str = "encode_text") -> None:
        super().__init__(
            name,
            backbone.encode_text,
            "text_dim",
            backbone.text_dim,
            batch.input_ids,
            batch.attention_mask,
        )

    @property
    def feeds(self) -> dict[str, NDArray[Any]]:
        return {"input_ids": self.inputs[0], "attention_mask": self.inputs[1]}


def probes_of(backbone: Backbone) -> tuple[ImageProbe, TextProbe]:
    """Both towers on the seven plain samples."""
    return ImageProbe(backbone, pixels_of(backbone)), TextProbe(
        backbone, Tokenizer(backbone.text_spec)(samples.TEXTS)
    )


def pixels_of(backbone: Backbone, pictures: Any = None) -> Array:
    """Images (default: the seven plain samples) → (N, 3, S, S)."""
    preprocess = Preprocessor(backbone.image_spec)
    # (N, 3, S, S)
    return np.stack(
        [preprocess(image) for image in (samples.images() if pictures is None else pictures)]
    )


def pad_to_context(batch: TokenBatch, spec: TextSpec) -> TokenBatch:
    """(B, L) → (B, context_length)."""
    more = ((0, 0), (0, spec.context_length - batch.input_ids.shape[1]))
    ids = np.pad(batch.input_ids, more, constant_values=spec.pad_id)
    mask = np.pad(batch.attention_mask, more)
    return TokenBatch(ids, mask, batch.truncated)


def _called(name: str, function: Callable[..., Tensor], *arrays: NDArray[Any]) -> Tensor:
    try:
        return function(*(torch.from_numpy(array) for array in arrays))
    except Exception as error:
        shapes = " and ".join(str(array.shape) for array in arrays)
        hint = f" ({_INDEX})" if isinstance(error, IndexError) else ""
        raise ContractError(
            f"{name} fails on inputs of {shapes} with {one_line(error)}{hint}"
        ) from error


def asked(name: str, function: Callable[[Any], Tensor | None], given: object) -> Tensor | None:
    """What an `upstream_…` method of the plugin answers; ContractError where it fails or gives no
    tensor.
    """
    try:
        answer = function(given)
    except Exception as error:
        raise ContractError(f"{name} fails with {one_line(error)}") from error
    if answer is not None and not isinstance(answer, Tensor):
        fail(
            f"{name} returns {article(type(answer).__name__)}; return a tensor, or None where there"
            " is nothing to compare with"
        )
    return answer


_INDEX = (
    "an id that its vocabulary lacks (is tokenizer_json that of the weights, and pad_id?), or more"
    " tokens than it has positions (is context_length?)"
)


def to_numpy(output: Tensor) -> Array:
    """A tensor of any device and dtype → float32."""
    if not isinstance(output, Tensor):
        fail(f"a tower returns {article(type(output).__name__)}; return the tensor of embeddings")
    return np.asarray(output.detach().float().cpu().numpy())


def unit(embeddings: Array) -> Array:
    """(B, D) → (B, D) of length 1."""
    return np.asarray(
        embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    )


def spread(embeddings: Array) -> float:
    """Largest distance of an embedding from the mean of all."""
    return float(np.linalg.norm(embeddings - embeddings.mean(axis=0), axis=1).max())


def distance(ours: Array, theirs: Array, *, among: Array | None = None) -> float:
    """Largest distance of two rows that should be equal, as a share of the spread of `among`
    (default: ours) plus a tenth of its length; nan counts as far.
    """
    if ours.shape != theirs.shape:
        fail(f"embeddings of shape {theirs.shape} stand where {ours.shape} belong")
    every = ours if among is None else among
    scale = spread(every) + 0.1 * float(np.linalg.norm(every, axis=1).max())
    gap = float(np.linalg.norm(ours - theirs, axis=1).max()) / max(scale, 1e-12)
    return gap if gap == gap else float("inf")


# --- training


@contextmanager
def thawed(backbone: Backbone) -> Iterator[None]:
    """Every parameter thawed and without a gradient; all as before afterwards."""
    flags = [(parameter, parameter.requires_grad) for parameter in backbone.parameters()]
    backbone.requires_grad_(True)
    backbone.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        backbone.zero_grad(set_to_none=True)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def gradient_of(tower: Probe, backbone: Backbone) -> Tensor:
    """(P,) of all parameters that a tower's embeddings reach, drawn from one seed, as a tower in
    training mode may have dropout.
    """
    with thawed(backbone), torch.random.fork_rng():
        torch.manual_seed(0)
        tower().square().sum().backward()  # type: ignore[no-untyped-call]
        return torch.cat(
            [
                parameter.grad.reshape(-1)
                for parameter in backbone.parameters()
                if parameter.grad is not None
            ]
        )


# --- on disk


@contextmanager
def changed_weights(backbone: Backbone) -> Iterator[dict[str, Tensor]]:
    """Every floating tensor a little larger, by 2 % at most, as if trained; yields the loaded
    weights, which are put back afterwards.
    """
    before = {name: tensor.detach().clone() for name, tensor in backbone.state_dict().items()}
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in backbone.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.02 * torch.rand(tensor.shape, generator=random).to(tensor))
    try:
        yield before
    finally:
        backbone.load_state_dict(before)


@contextmanager
def saved(backbone: Backbone) -> Iterator[Path]:
    """A temporary folder that the backbone has been saved to."""
    with tempfile.TemporaryDirectory(prefix="mismatch-contract-") as parent:
        folder = Path(parent) / "model"
        folder.mkdir()
        try:
            backbone.save_pretrained(folder)
        except Exception as error:
            raise ContractError(f"save_pretrained fails with {one_line(error)}") from error
        names = {path.name for path in folder.iterdir()}
        if not names:
            fail("save_pretrained wrote nothing to the directory that it was given")
        if ours := sorted(names & OURS):
            fail(
                f"save_pretrained writes {ours[0]}, which mismatch writes beside it; choose another"
                " name"
            )
        yield folder


def load_back(load: Callable[[str], Backbone], folder: Path, backbone: Backbone) -> Backbone:
    """`load(folder)`, another object than `backbone`; its failure as a ContractError."""
    try:
        again = load(str(folder))
    except Exception as error:
        names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise ContractError(
            f"load(DIRECTORY) can't read what save_pretrained wrote ({names}): {one_line(error)}"
        ) from error
    if again is backbone:
        fail(
            "load gives the same object again, whatever it is asked for; make a new backbone on"
            " each call"
        )
    return again


def check_specs(backbone: Backbone, again: Backbone) -> None:
    """Raise ContractError where what a loaded backbone says of itself differs."""
    for name in (
        "image_dim",
        "text_dim",
        "shared_space",
        "logit_scale",
        "logit_bias",
        "image_spec",
        "text_spec",
        "levels_dim",
        "text_levels_dim",
        "int8",
    ):
        ours = getattr(backbone, name, None)
        theirs = getattr(again, name, None)
        if ours != theirs and not _nearly(ours, theirs):
            changed = (
                changed_fields(ours, theirs)
                if isinstance(ours, ImageSpec | TextSpec)
                and isinstance(theirs, ImageSpec | TextSpec)
                else []
            )
            fail(
                f"{'.'.join([name, *changed[:1]])} differs after save_pretrained and load;"
                " save_pretrained must write it, load must read it"
            )


def _nearly(ours: object, theirs: object) -> bool:
    """Whether two floats may come from weights that `changed_weights` has moved by 2 %."""
    return (
        isinstance(ours, float)
        and isinstance(theirs, float)
        and math.isclose(ours, theirs, rel_tol=0.1)
    )


def changed_fields(spec: ImageSpec | TextSpec, other: ImageSpec | TextSpec) -> list[str]:
    """Names of the fields in which two specs of one kind differ."""
    return [f.name for f in fields(spec) if getattr(spec, f.name) != getattr(other, f.name)]


def check_tensors(backbone: Backbone, again: Backbone, before: Mapping[str, Tensor]) -> None:
    """Raise ContractError where a tensor has another value, or is gone; `before`: the values before
    they were changed.
    """
    ours = backbone.state_dict()
    theirs = again.state_dict()
    lost = [
        name
        for name, tensor in ours.items()
        if name not in theirs or not torch.equal(tensor, theirs[name].to(tensor))
    ]
    if not lost:
        return
    named = f"{len(lost)} of {len(ours)} tensors ({', '.join(lost[:3])})"
    if all(
        name in theirs and torch.equal(before[name], theirs[name].to(before[name])) for name in lost
    ):
        why = (
            "save_pretrained leaves them out, or load doesn't read them from the directory"
            " (strict=False hides it)"
        )
        fail(f"{named} come back as they were before training: {why}")
    fail(
        f"save_pretrained and load lose {named}: they come back with other values; save them all,"
        " in fp32"
    )


def in_new_process(code: str, *arguments: object, what: str) -> str:
    """Run `code` in an empty working directory, without the current one on the path; returns what
    it prints last.
    """
    with tempfile.TemporaryDirectory(prefix="mismatch-contract-") as folder:
        command = [sys.executable, "-P", "-W", "ignore", "-c", code, *map(str, arguments)]
        paths = os.pathsep.join(
            os.path.abspath(path)
            for path in os.environ.get("PYTHONPATH", "").split(os.pathsep)
            if path
        )
        environment = os.environ | {
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
            "PYTHONPATH": paths,
        }
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        fail(f"{what} fails in a new process: {last}")
    return (done.stdout.strip().splitlines() or [""])[-1]


# --- ONNX

# of graphs, so that each is exported once
_FOLDERS: weakref.WeakKeyDictionary[Backbone, Path] = weakref.WeakKeyDictionary()


def graph_of(backbone: Backbone, tower: str, *, int8: bool = False) -> Graph:
    """The graph of a tower by the name of its probe, exported on first use, its levels with it, and
    kept for as long as the backbone lives.
    """
    if backbone not in _FOLDERS:
        _FOLDERS[backbone] = Path(tempfile.mkdtemp(prefix="mismatch-contract-"))
        weakref.finalize(backbone, shutil.rmtree, _FOLDERS[backbone], ignore_errors=True)
    side = "image" if "image" in tower else "text"
    path = _FOLDERS[backbone] / f"{side}.onnx"
    if not path.is_file():
        write, width = (
            (write_image_encoder, backbone.levels_dim)
            if side == "image"
            else (write_text_encoder, backbone.text_levels_dim)
        )
        try:
            write(backbone, path, ("levels",) if width else ())
        except Exception as error:
            raise ContractError(
                f"{tower} can't be exported to ONNX: {_root(error)}; {_UNTRACEABLE}"
            ) from error
    if int8:
        quantize(path, path.with_suffix(".int8.onnx"))
        path = path.with_suffix(".int8.onnx")
    return Graph(
        path,
        threads=torch.get_num_threads(),
        output=f"{side}_{'features' if tower.endswith('levels') else 'embedding'}",
    )


_UNTRACEABLE = "avoid branches on values, python loops over tensors, and packed sequences"


def _root(error: Exception) -> str:
    """torch's export errors are pages; the root cause is the shortest, and its first
    lines say it.
    """
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = " ".join(str(cause).split())
    return (
        f"{type(cause).__name__}: {text[:LONGEST]}{'…' * (len(text) > LONGEST)}"
        if text
        else type(cause).__name__
    )


def check_parity(tower: Probe, graph: Graph, among: Array, where: str) -> None:
    """Raise ContractError where the graph embeds otherwise than torch; `among`: embeddings of
    unlike inputs.
    """
    try:
        theirs = graph(**tower.feeds)[:, -tower.width :]  # levels stand behind their embedding
    except Exception as error:  # onnxruntime's own classes share no base but Exception
        raise ContractError(
            f"{tower.name} exported to ONNX fails {where} ({_root(error)}): {_CONSTANT}"
        ) from error
    if (gap := distance(tower.embed(), theirs, among=among)) > CLOSE:
        fail(
            f"{tower.name} exported to ONNX differs from torch {where} ({percent(gap)}):"
            f" {_CONSTANT}"
        )


_CONSTANT = (
    "a shape or a value of the traced example has become a constant of the graph; use x.shape[0]"
    " for a length, not len(x), and no python loop over rows"
)
