"""That what is saved comes back."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mismatch.backbones.base import Backbone
from mismatch.errors import ContractError
from mismatch.specs import ImageSpec, TextSpec
from mismatch.testing.checks import Checks, in_new_process
from mismatch.testing.declarations import changed_fields
from mismatch.testing.outcomes import CLOSE, SAME, fail, one_line, percent, skip
from mismatch.testing.probes import distance, probes_of

__all__ = [
    "OURS",
    "DiskChecks",
    "changed_weights",
    "check_specs",
    "check_tensors",
    "load_back",
    "saved",
]


SHOWN = 80  # letters of what is printed

# a checkpoint's own files
OURS = frozenset({"classification_head.safetensors", "mismatch.json", "training_stats.json"})

_EMBED = """
import sys, numpy as np, torch
from pathlib import Path
from mismatch.backbones.registry import load_backbone
backbone = load_backbone(sys.argv[1], sys.argv[2])
with np.load(Path(sys.argv[3]) / "inputs.npz") as inputs, torch.inference_mode():
    tensors = {name: torch.from_numpy(inputs[name]) for name in inputs}
    images = backbone.encode_image(tensors["pixel_values"])
    texts = backbone.encode_text(tensors["input_ids"], tensors["attention_mask"])
np.savez(Path(sys.argv[3]) / "outputs.npz", images=images.numpy(), texts=texts.numpy())
"""


class DiskChecks(Checks):
    """That what is saved comes back."""

    def test_save_and_load(self, backbone: Backbone) -> None:
        """Changed weights, as training changes them, come back from `save_pretrained`."""
        load = self._loader()
        if load is None:
            skip("neither reference nor load is given, so nothing can be loaded back")
        with changed_weights(backbone) as before, saved(backbone) as folder:
            again = load_back(load, folder, backbone)
            check_specs(backbone, again)
            check_tensors(backbone, again, before)
            for tower, other in zip(probes_of(backbone), probes_of(again), strict=True):
                if (gap := distance(tower.embed(), other.embed())) > SAME:
                    what = (
                        "a setting, or a tensor that is no parameter and no persistent buffer, is"
                        " not saved"
                    )
                    fail(
                        f"{tower.name} differs after save_pretrained and load ({percent(gap)})"
                        f" though the weights agree: {what}"
                    )

    def test_saving_keeps_the_weights(self, backbone: Backbone) -> None:
        """`save_pretrained` leaves the weights as they are: training saves and goes on."""
        with changed_weights(backbone):
            before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
            with saved(backbone):
                after = backbone.state_dict()
            moved = [name for name, tensor in before.items() if not _equal(tensor, after.get(name))]
        if moved:
            fail(
                f"save_pretrained changes {len(moved)} of {len(before)} tensors of the backbone"
                f" ({', '.join(moved[:3])}); save a copy: {{name: tensor.half() for …}} leaves the"
                " weights as they are, self.half() does not"
            )

    def test_save_and_load_in_a_new_process(self, backbone: Backbone) -> None:
        """The folder is enough: a fresh process that only knows the family loads it."""
        if not self.reference:
            skip("reference is not given, so a new process would not know the family")
        family, _, _ = self.reference.partition(":")
        with changed_weights(backbone), saved(backbone) as folder:
            images, texts = probes_of(backbone)
            np.savez(
                folder.parent / "inputs.npz", allow_pickle=False, **images.feeds, **texts.feeds
            )
            in_new_process(
                _EMBED,
                family,
                folder,
                folder.parent,
                what=f"loading what save_pretrained wrote as {family}:DIRECTORY",
            )
            with np.load(folder.parent / "outputs.npz") as theirs:
                gap = max(
                    distance(images.embed(), theirs["images"]),
                    distance(texts.embed(), theirs["texts"]),
                )
        if gap > CLOSE:
            fail(
                "embeddings differ in a new process that loads what save_pretrained wrote"
                f" ({percent(gap)}): something is kept in memory only; save it too"
            )


@contextmanager
def changed_weights(backbone: Backbone) -> Iterator[dict[str, Tensor]]:
    """Make every floating tensor a little larger, by 2 % at most, as if trained. Yield the loaded
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
    """Yield a temporary folder that the backbone has been saved to."""
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
                f"save_pretrained writes {ours[0]}, which mismatch writes next to it; choose"
                " another name"
            )
        yield folder


def _equal(tensor: Tensor, other: Tensor | None) -> bool:
    return other is not None and tensor.dtype == other.dtype and torch.equal(tensor, other)


def load_back(load: Callable[[str], Backbone], folder: Path, backbone: Backbone) -> Backbone:
    """Return `load(folder)`, another object than `backbone`; ContractError where it fails."""
    had_grad = torch.is_grad_enabled()
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            again = load(str(folder))
    except (Exception, SystemExit) as error:
        names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise ContractError(
            f"load(DIRECTORY) can't read what save_pretrained wrote ({names}): {one_line(error)}"
        ) from error
    if torch.is_grad_enabled() != had_grad:
        torch.set_grad_enabled(had_grad)
        fail(
            "load leaves gradients switched off for the whole process; use"
            " `with torch.no_grad():` where it needs none"
        )
    if text := printed.getvalue().strip():
        fail(
            f"load prints {text.splitlines()[0][:SHOWN]!r}, and a command's output would hold it;"
            " use the logging module"
        )
    if again is backbone:
        fail(
            "load gives the same object again, whatever it is asked for; make a new backbone on"
            " each call"
        )
    if again.model_id != str(folder):
        fail(
            f"load(DIRECTORY) gives a backbone whose model_id is {again.model_id!r}; set it to what"
            " load was asked for, which a checkpoint records"
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
    """Return whether two floats may come from weights that `changed_weights` has moved by 2 %."""
    return (
        isinstance(ours, float)
        and isinstance(theirs, float)
        and math.isclose(ours, theirs, rel_tol=0.1)
    )


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
