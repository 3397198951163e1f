"""The contract of a backbone, as checks that its author runs: under pytest by subclassing
`BackboneContract`, or as `mismatch backbones check NAME`.

    @pytest.fixture(scope="module")
    def backbone():
        return mismatch.load_backbone("lit")

    class TestLit(BackboneContract):
        reference = "lit"

A check passes, is skipped with the reason, or raises ContractError, whose message says what to
change. pytest is not imported here.
"""

from __future__ import annotations

import copy
import json
import traceback
import unittest
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from time import perf_counter
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from mismatch.backbones import registry, samples
from mismatch.backbones.base import Backbone
from mismatch.backbones.diagnosis import pixel_fault, token_fault
from mismatch.backbones.probes import (
    CLOSE,
    NEAR,
    SAME,
    ImageProbe,
    LevelsProbe,
    Probe,
    TextLevelsProbe,
    TextProbe,
    article,
    asked,
    changed_fields,
    changed_weights,
    check_parity,
    check_specs,
    check_tensors,
    distance,
    fail,
    gradient_of,
    graph_of,
    in_new_process,
    load_back,
    one_line,
    pad_to_context,
    percent,
    pixels_of,
    probes_of,
    saved,
    skip,
    spread,
    thawed,
    to_numpy,
    unit,
)
from mismatch.errors import BackboneError, CheckpointError, ContractError, InputError
from mismatch.runtime.preprocess import Preprocessor
from mismatch.runtime.tokenize import Tokenizer
from mismatch.specs import ImageSpec, TextSpec

__all__ = [
    "BackboneContract",
    "Check",
    "check_names",
    "check_selection",
    "iter_checks",
    "run_checks",
]

Outcome = Literal["passed", "failed", "skipped"]

BASIC = ("declarations", "specs round trip", "widths")  # without which the others say nothing
# which need none of them
APART = ("transform is upstreams", "tokenizer is upstreams", "hook is light", "entry point")
INT8_COSINE = 0.99  # of fp32's and int8's embedding, where `int8` is claimed
VOCABULARY = 128  # rows, from where on an embedding is taken for one of tokens
HEAVY = (
    "torch",
    "tensorflow",
    "jax",
    "transformers",
    "open_clip",
    "timm",
    "torchvision",
    "onnx",
    "onnxruntime",
)


@dataclass(frozen=True)
class Check:
    """What came of one check."""

    name: str  # "rows are independent"
    outcome: Outcome
    message: str  # what to change; why it was skipped; empty where it passed
    seconds: float
    trace: str = field(default="", repr=False)  # the traceback of what failed


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
_HOOK = """
import importlib, json, sys
importlib.import_module(sys.argv[1].partition(":")[0])
print(json.dumps(sorted(set(json.loads(sys.argv[2])) & set(sys.modules))))
"""
_FAMILY = """
import json, sys
from mismatch.backbones.registry import families
found = families().get(sys.argv[1])
print(json.dumps(found and [found.distribution, found.module]))
"""


class BackboneContract:
    """What every backbone keeps. Subclass it as `Test…` where there is a fixture `backbone`, of a
    wide scope, as loading and exporting take time.
    """

    # FAMILY or FAMILY:MODEL as installed: turns on the checks of the plugin itself
    reference: ClassVar[str] = ""
    # a staticmethod: directory → backbone; the family's own where `reference` is given
    load: ClassVar[Callable[[str], Backbone] | None] = None

    # --- what it says of itself

    def test_declarations(self, backbone: Backbone) -> None:
        """Every attribute of the base class is set, and they agree with each other."""
        wanted = {
            "image_dim": int,
            "text_dim": int,
            "shared_space": bool,
            "image_spec": ImageSpec,
            "text_spec": TextSpec,
            "model_id": str,
        }
        for name, kind in wanted.items():
            if not isinstance(value := getattr(backbone, name, None), kind):
                fail(
                    f"backbone.{name} is {value!r}; set it to {article(kind.__name__)} in __init__"
                )
        for name in ("logit_scale", "logit_bias", "zero_shot_threshold"):
            if not isinstance(value := getattr(backbone, name, "missing"), float | int | None):
                fail(
                    f"backbone.{name} is {value}; set it to a number, or to None where upstream"
                    " knows none"
                )
        if backbone.shared_space and backbone.image_dim != backbone.text_dim:
            fail(
                f"shared_space is True, but image_dim is {backbone.image_dim} and text_dim"
                f" {backbone.text_dim}: unlike widths share no space; set it to False"
            )
        if not backbone.text_spec.pad_id >= 0:
            fail(
                f"text_spec.pad_id is {backbone.text_spec.pad_id}; give the id that upstream pads"
                " with, 0 or more"
            )
        for name, tensor in [*backbone.named_parameters(), *backbone.named_buffers()]:
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                fail(
                    f"{name} is of {tensor.dtype}; load fp32 weights (self.float()), the precision"
                    " is chosen later"
                )
            if tensor.device.type != "cpu":
                fail(f"{name} is on {tensor.device}; load on the CPU, the device is chosen later")
        if backbone.training:
            fail("the loaded backbone is in training mode; call self.eval() at the end of __init__")

    def test_specs_round_trip(self, backbone: Backbone) -> None:
        """Both specs come back from JSON, as a bundle carries them; the tokenizer's ids fit."""
        image = backbone.image_spec
        text = backbone.text_spec
        changed = [
            f"image_spec.{name}"
            for name in changed_fields(image, ImageSpec.from_dict(_through_json(image)))
        ]
        changed += [
            f"text_spec.{name}"
            for name in changed_fields(
                text, TextSpec.from_dict(_through_json(text), tokenizer_json=text.tokenizer_json)
            )
        ]
        if changed:
            fail(f"{changed[0]} does not survive JSON; use plain numbers, strings and tuples")
        try:
            ids = Tokenizer(text)([samples.LONG]).input_ids
        except (CheckpointError, InputError):
            needed = (
                "the text of a tokenizers file: tokenizer.to_str(), or backend_tokenizer.to_str()"
                " of a fast tokenizer of transformers"
            )
            fail(
                f"text_spec.tokenizer_json can't be read ({str(text.tokenizer_json)[:40]!r}); give"
                f" {needed}"
            )
        if ids.shape[1] > text.context_length:
            fail(
                f"a long text becomes {ids.shape[1]} ids, but text_spec.context_length is"
                f" {text.context_length}"
            )

    # --- what it computes

    def test_widths(self, backbone: Backbone) -> None:
        """Embeddings are (B, dim), of floats, as wide as declared."""
        for tower in probes_of(backbone):
            output = tower()
            if not isinstance(output, Tensor):
                fail(
                    f"{tower.name} returns {article(type(output).__name__)}; return the tensor of"
                    " embeddings"
                )
            if tuple(output.shape) != (len(tower), tower.width):
                if output.ndim != 2:
                    fail(
                        f"{tower.name} gives {tuple(output.shape)} for {len(tower)} inputs; pool or"
                        f" flatten to one vector each: {(len(tower), tower.width)}"
                    )
                needed = (
                    f"but {tower.declared} is {tower.width}, so {(len(tower), tower.width)} is"
                    " needed"
                )
                fail(
                    f"{tower.name} gives {tuple(output.shape)} for {len(tower)} inputs, {needed};"
                    f" set {tower.declared} to the width of its output"
                )
            if (alone := tuple(tower([0]).shape)) != (1, tower.width):
                fail(
                    f"{tower.name} gives {alone} for one input, where {(1, tower.width)} belongs;"
                    " does a squeeze() drop the batch axis?"
                )
            if output.dtype != torch.float32:
                fail(f"{tower.name} gives {output.dtype}; load fp32 weights (dtype=torch.float32)")
            if not bool(torch.isfinite(output).all()):
                fail(f"{tower.name} gives nan or infinity for plain inputs")
            if spread(to_numpy(output)) < 1e-6:
                fail(
                    f"{tower.name} gives the same embedding for every input; it doesn't use what it"
                    " is given"
                )

    def test_not_normalised(self, backbone: Backbone) -> None:
        """The head normalises; a backbone hands over what its projection gives."""
        for tower in probes_of(backbone):
            lengths = np.linalg.norm(tower.embed(), axis=1)
            if np.ptp(lengths) < 1e-5 and abs(lengths.mean() - 1) < 1e-4:
                fail(
                    f"{tower.name} gives embeddings of length 1: they are normalised here and by"
                    " the head again; return them before normalising"
                )

    def test_eval_is_deterministic(self, backbone: Backbone) -> None:
        """In eval mode the same input gives the same embedding."""
        for tower in probes_of(backbone):
            if (gap := distance(tower.embed(), tower.embed())) > SAME:
                fail(
                    f"{tower.name} gives another embedding for the same input in eval mode"
                    f" ({percent(gap)}): something random is left on, such as functional.dropout"
                    " without training=self.training"
                )

    def test_rows_are_independent(self, backbone: Backbone) -> None:
        """A row's embedding does not depend on what else is in its batch."""
        for tower in probes_of(backbone):
            together = tower.embed()
            alone = np.concatenate([tower.embed([i]) for i in range(len(tower))])
            if (gap := distance(together, alone)) > CLOSE:
                fail(
                    f"{tower.name} gives a row another embedding alone than among others"
                    f" ({percent(gap)}): something looks across rows in eval mode, such as batch"
                    " norm without running statistics, or a mean over the batch"
                )

    def test_padding(self, backbone: Backbone) -> None:
        """`padding="longest"`: a text at its own length embeds as when it is padded to
        context_length.
        """
        spec = backbone.text_spec
        if spec.padding != "longest":
            skip('text_spec.padding is "context": texts always have one length')
        tokenizer = Tokenizer(spec)
        gaps = []
        whole = TextProbe(backbone, pad_to_context(tokenizer(samples.TEXTS), spec)).embed()
        for i, text in enumerate(samples.TEXTS):
            gaps.append(
                distance(
                    whole[i : i + 1], TextProbe(backbone, tokenizer([text])).embed(), among=whole
                )
            )
        if max(gaps) > CLOSE:
            other = (
                f"a text padded to {spec.context_length} has another embedding than at its own"
                f" length ({percent(max(gaps))})"
            )
            remedy = (
                "encode_text attends to pads or pools over them; use attention_mask, or set"
                ' padding="context"'
            )
            fail(f'text_spec.padding is "longest", but {other}: {remedy}')

    def test_texts(self, backbone: Backbone) -> None:
        """Empty, long and unusual texts give finite embeddings."""
        tokenizer = Tokenizer(backbone.text_spec)
        for name, text in samples.UNUSUAL_TEXTS.items():
            output = TextProbe(
                backbone, tokenizer([text]), name=f"encode_text, given a text that is {name},"
            ).embed()
            if not np.isfinite(output).all():
                fail(
                    f"encode_text gives nan for a text that is {name} ({text[:20]!r}); if it"
                    " divides by the number of tokens, clamp that to 1 at least"
                )

    def test_images(self, backbone: Backbone) -> None:
        """Tiny, elongated, grey, transparent and 16-bit images give finite embeddings."""
        preprocess = Preprocessor(backbone.image_spec)
        for name, image in samples.unusual_images().items():
            output = ImageProbe(
                backbone, preprocess(image)[None], name=f"encode_image, given {name},"
            ).embed()
            if not np.isfinite(output).all():
                fail(f"encode_image gives nan for an image {name}")

    def test_levels(self, backbone: Backbone) -> None:
        """`image_levels` and `text_levels` are as wide as declared, finite, independent of the
        batch, and the same in one pass with the embedding.
        """
        if not backbone.levels_dim and not backbone.text_levels_dim:
            skip("levels_dim and text_levels_dim are 0: it offers no features of earlier layers")
        images, texts = probes_of(backbone)
        for tower, plain, both in (
            (LevelsProbe(backbone, pixels_of(backbone)), images, backbone.encode_image_and_levels),
            (
                TextLevelsProbe(backbone, Tokenizer(backbone.text_spec)(samples.TEXTS)),
                texts,
                backbone.encode_text_and_levels,
            ),
        ):
            if tower.width:
                self._check_levels(tower, plain, both)

    def _check_levels(
        self, tower: Probe, plain: Probe, both: Callable[..., tuple[Tensor, Tensor]]
    ) -> None:
        together = tower.embed()
        if together.shape != (len(tower), tower.width) or not np.isfinite(together).all():
            fail(
                f"{tower.name} gives {together.shape}, nan or infinity; ({len(tower)},"
                f" {tower.width}) finite numbers are needed, as {tower.declared} says"
            )
        if (
            distance(together, np.concatenate([tower.embed([i]) for i in range(len(tower))]))
            > CLOSE
        ):
            fail(f"{tower.name} gives a row other features alone than among others")
        with torch.inference_mode():
            found = [to_numpy(value) for value in both(*map(torch.from_numpy, tower.inputs))]
        for name, expected, value in (
            (plain.name, plain.embed(), found[0]),
            (tower.name, together, found[1]),
        ):
            if value.shape != expected.shape or distance(expected, value) > CLOSE:
                fail(
                    f"{plain.name}_and_levels gives something else than {name}; it must give what"
                    f" {plain.name} and {tower.name} give"
                )

    # --- training

    def test_gradients(self, backbone: Backbone) -> None:
        """Both towers learn, down to the pixels and to the words."""
        for tower in probes_of(backbone):
            with thawed(backbone):
                output = tower()
                if not output.requires_grad:
                    fail(
                        f"{tower.name} cuts the gradient: it runs under no_grad or inference_mode,"
                        " or detaches; it would never learn"
                    )
                output.square().sum().backward()  # type: ignore[no-untyped-call]
                reached = [
                    name
                    for name, parameter in backbone.named_parameters()
                    if parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
                ]
                words = [
                    module.weight.grad
                    for module in backbone.modules()
                    if isinstance(module, torch.nn.Embedding) and len(module.weight) > VOCABULARY
                ]
            if not reached:
                fail(
                    f"no parameter gets a gradient from {tower.name}; are its weights parameters of"
                    " the backbone, registered as modules?"
                )
            if tower.declared == "text_dim" and words and all(grad is None for grad in words):
                fail(
                    f"no word gets a gradient from {tower.name}, only {len(reached)} later"
                    " parameters do; is something detached on the way?"
                )
        pixels = torch.from_numpy(pixels_of(backbone)).requires_grad_()
        with thawed(backbone):
            backbone.encode_image(pixels).square().sum().backward()  # type: ignore[no-untyped-call]
        if pixels.grad is None or not bool(pixels.grad.abs().sum() > 0):
            fail(
                "no gradient of encode_image reaches the pixels; is something detached on the way?"
            )

    def test_checkpointing(self, backbone: Backbone) -> None:
        """With `checkpoint_gradients`, where it is offered, both towers get the same gradients in
        training.
        """
        plain = copy.deepcopy(backbone).train()
        thrifty = copy.deepcopy(backbone).train()
        try:
            thrifty.checkpoint_gradients()
        except BackboneError:
            skip("checkpoint_gradients is not offered")
        for tower, other in zip(probes_of(plain), probes_of(thrifty), strict=True):
            expected = gradient_of(tower, plain)
            found = gradient_of(other, thrifty)
            if found.shape != expected.shape or not torch.allclose(
                found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
            ):
                fail(
                    f"{tower.name} gets other gradients after checkpoint_gradients; use"
                    " torch.utils.checkpoint with use_reentrant=False"
                )

    def test_freezing(self, backbone: Backbone) -> None:
        """Frozen, nothing changes and nothing needs a gradient; thawed, it learns again."""
        with thawed(backbone):
            before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
            backbone.requires_grad_(False)
            if held := [tower.name for tower in probes_of(backbone) if tower().requires_grad]:
                fail(
                    f"{held[0]} still needs a gradient after requires_grad_(False); its weights"
                    " must all be parameters of the backbone"
                )
            if moved := [
                name
                for name, tensor in backbone.state_dict().items()
                if not torch.equal(tensor, before[name])
            ]:
                fail(
                    f"{moved[0]} changes while the backbone only embeds, in eval mode; update"
                    " statistics in training mode only"
                )
            backbone.requires_grad_(True)
            if lost := [tower.name for tower in probes_of(backbone) if not tower().requires_grad]:
                fail(f"{lost[0]} needs no gradient after requires_grad_(True); it can't be thawed")
            if [block for block in backbone.blocks() if block not in set(backbone.modules())]:
                fail(
                    "blocks names a module that is no part of the backbone, so it could be neither"
                    " frozen nor trained by itself"
                )

    # --- upstream

    def test_transform_is_upstreams(self, backbone: Backbone) -> None:
        """`image_spec` gives upstream's own pixel values."""
        pictures = [*samples.images(), *samples.square_images(backbone.image_spec.size)]
        theirs = [
            asked("upstream_transform", backbone.upstream_transform, image) for image in pictures
        ]
        if any(value is None for value in theirs):
            skip("upstream_transform is not given, so image_spec is not compared with upstream")
        if fault := pixel_fault(
            backbone.image_spec,
            pictures,
            [to_numpy(value) for value in theirs if value is not None],
        ):
            fail(fault)

    def test_tokenizer_is_upstreams(self, backbone: Backbone) -> None:
        """`text_spec` gives upstream's own ids."""
        texts = [*samples.TEXTS, *samples.UNUSUAL_TEXTS.values()]
        theirs = asked("upstream_tokenizer", backbone.upstream_tokenizer, texts)
        if theirs is None:
            skip("upstream_tokenizer is not given, so text_spec is not compared with upstream")
        if theirs.ndim != 2 or len(theirs) != len(texts):
            fail(
                f"upstream_tokenizer gives {tuple(theirs.shape)} for {len(texts)} texts;"
                f" ({len(texts)}, context_length) is needed, padded and truncated"
            )
        if fault := token_fault(backbone.text_spec, texts, theirs.numpy()):
            fail(fault)

    def test_embeddings_are_upstreams(self, backbone: Backbone) -> None:
        """Our whole path points where upstream's own does."""
        pictures = samples.square_images(backbone.image_spec.size)
        with torch.inference_mode():
            theirs = (
                asked("upstream_encode_image", backbone.upstream_encode_image, pictures),
                asked("upstream_encode_text", backbone.upstream_encode_text, list(samples.TEXTS)),
            )
        if theirs == (None, None):
            skip(
                "neither upstream_encode_image nor upstream_encode_text is given, so embeddings are"
                " not compared with upstream"
            )
        ours = (
            ImageProbe(backbone, pixels_of(backbone, pictures)),
            TextProbe(backbone, Tokenizer(backbone.text_spec)(samples.TEXTS)),
        )
        reasons = (
            (
                "if the pixel values agree, the tower treats them otherwise: normalised twice,"
                " colours in another order, another pooling, training mode"
            ),
            (
                "if the ids agree, the tower treats them otherwise: another mask, another token"
                " pooled, training mode"
            ),
        )
        for tower, upstream, why in zip(ours, theirs, reasons, strict=True):
            if (
                upstream is not None
                and (gap := distance(unit(tower.embed()), unit(to_numpy(upstream)))) > NEAR
            ):
                fail(
                    f"{tower.name} points elsewhere than upstream_{tower.name} for the same inputs"
                    f" ({percent(gap)}); {why}"
                )

    # --- on disk

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

    # --- ONNX

    def test_onnx_export(self, backbone: Backbone) -> None:
        """Both towers export, with any batch and, for `padding="longest"`, any length, and embed as
        torch does.
        """
        images, texts = probes_of(backbone)
        tower: Probe
        for batch in (1, 7):
            tower = ImageProbe(backbone, images.inputs[0][:batch])
            check_parity(
                tower, graph_of(backbone, "encode_image"), images.embed(), f"for a batch of {batch}"
            )
        for chosen in (
            samples.TEXTS,
            samples.TEXTS[:1],
            ("a",),
            samples.TEXTS[-2:],
            (samples.LONG, *samples.TEXTS[:2]),
        ):
            tower = TextProbe(backbone, Tokenizer(backbone.text_spec)(chosen))
            check_parity(
                tower,
                graph_of(backbone, "encode_text"),
                texts.embed(),
                f"for a batch of {len(tower)} of length {tower.inputs[0].shape[1]}",
            )
        for tower in (
            LevelsProbe(backbone, images.inputs[0]),
            TextLevelsProbe(backbone, Tokenizer(backbone.text_spec)(samples.TEXTS)),
        ):
            if tower.width:
                check_parity(
                    tower,
                    graph_of(backbone, tower.name),
                    tower.embed(),
                    f"for a batch of {len(tower)}",
                )

    def test_int8(self, backbone: Backbone) -> None:
        """Where `int8` is claimed, quantised towers embed nearly as in fp32."""
        if not backbone.int8:
            skip("int8 is False: nothing is claimed of quantised towers")
        for tower in probes_of(backbone):
            theirs = graph_of(backbone, tower.name, int8=True)(**tower.feeds)
            cosine = float((unit(tower.embed()) * unit(theirs)).sum(axis=1).min())
            if not cosine >= INT8_COSINE:
                fail(
                    f"int8 is claimed, but {tower.name} quantised has a cosine of {cosine:.4f} with"
                    f" fp32, below {INT8_COSINE}; set int8 = False"
                )

    # --- the plugin

    def test_hook_is_light(self, backbone: Backbone) -> None:
        """The module of the hook imports no torch, so that `mismatch --help` and predictions from a
        bundle stay fast.
        """
        family = self._family()
        loaded = json.loads(
            in_new_process(
                _HOOK, family.module, json.dumps(HEAVY), what=f"importing {family.module}"
            )
        )
        if loaded:
            fail(
                f"importing {family.module} imports {', '.join(loaded)}; import them inside load(),"
                " where they are needed"
            )

    def test_entry_point(self, backbone: Backbone) -> None:
        """The installed distribution brings the family by its entry point, from any working
        directory.
        """
        family = self._family()
        found = json.loads(
            in_new_process(_FAMILY, family.name, what=f"asking for the family {family.name}")
        )
        if found is None:
            fail(
                f"{family.name} is found from this folder only; install the plugin, or give its"
                " place on PYTHONPATH"
            )
        if found != [family.distribution, family.module]:
            fail(
                f"in a new process {family.name} comes from {found}, here from"
                f" {[family.distribution, family.module]}; is an older copy installed?"
            )
        if _is_editable(family.distribution):
            skip(
                f"{family.distribution} is installed in editable mode; to check what its wheel"
                " holds, pip install the wheel"
            )
        if not _owns(family.distribution, family.module):
            fail(
                f"the installed {family.distribution} holds no file of the module {family.module};"
                " add its package to the wheel"
            )

    def _loader(self) -> Callable[[str], Backbone] | None:
        return type(self).load or (self._family().load if self.reference else None)

    def _family(self) -> registry.BackboneFamily:
        if not self.reference:
            skip(
                "reference is not given: set it to FAMILY or FAMILY:MODEL to check the installed"
                " plugin"
            )
        return registry.family(self.reference.partition(":")[0])


def check_names() -> list[str]:
    """The checks in their order: "declarations", …, "entry point"."""
    return [
        name.removeprefix("test_").replace("_", " ")
        for name in vars(BackboneContract)
        if name.startswith("test_")
    ]


def check_selection(only: Collection[str]) -> None:
    """InputError for a name that is none of `check_names`, with the nearest that is."""
    if unknown := sorted(set(only) - set(check_names())):
        raise InputError(
            f"there is no check {unknown[0]!r}{registry.nearest(unknown[0], check_names())}; the"
            f" checks: {', '.join(check_names())}"
        )


def run_checks(
    backbone: Backbone,
    *,
    reference: str = "",
    load: Callable[[str], Backbone] | None = None,
    only: Collection[str] | None = None,
) -> list[Check]:
    """All checks of `iter_checks`."""
    return list(iter_checks(backbone, reference=reference, load=load, only=only))


def iter_checks(
    backbone: Backbone,
    *,
    reference: str = "",
    load: Callable[[str], Backbone] | None = None,
    only: Collection[str] | None = None,
) -> Iterator[Check]:
    """Run the contract against a loaded backbone, one check at a time, each whatever came of the
    others; without pytest.

    `reference` is the FAMILY or FAMILY:MODEL that it was loaded by; `load` (directory → backbone)
    is the family's own where it is given; `only`: names of `check_names` to run, default all of
    them. InputError for another name.
    """
    only = {only} if isinstance(only, str) else only
    check_selection(only or ())
    members: dict[str, Any] = {
        "reference": reference,
        "load": None if load is None else staticmethod(load),
    }
    contract = type("Contract", (BackboneContract,), members)()
    amiss = ""  # the basic check that failed: others would only repeat its fault in other words
    for name in check_names():
        if only is not None and name not in only:
            continue
        began = perf_counter()
        if amiss and name not in APART:
            yield Check(name, "skipped", f"{amiss} failed; mend that first", 0.0)
            continue
        outcome, message, trace = _outcome(
            getattr(contract, "test_" + name.replace(" ", "_")), backbone
        )
        amiss = amiss or (name if outcome == "failed" and name in BASIC else "")
        yield Check(name, outcome, message, perf_counter() - began, trace)


def _outcome(check: Callable[[Backbone], object], backbone: Backbone) -> tuple[Outcome, str, str]:
    try:
        check(backbone)
    except unittest.SkipTest as reason:
        return "skipped", str(reason), ""
    except Exception as error:  # noqa: BLE001  a plugin may fail in any way; the other checks go on
        return "failed", one_line(error), "".join(traceback.format_exception(error))
    return "passed", "", ""


def _through_json(spec: ImageSpec | TextSpec) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(json.dumps(spec.to_dict()))
    except TypeError as error:
        raise ContractError(
            f"{type(spec).__name__} is no plain JSON ({error}); use plain numbers, strings and"
            " tuples"
        ) from error
    return data


def _is_editable(distribution: str) -> bool:
    origin = metadata.distribution(distribution).read_text("direct_url.json")
    return bool(json.loads(origin).get("dir_info", {}).get("editable")) if origin else False


def _owns(distribution: str, module: str) -> bool:
    files = metadata.files(distribution)
    if files is None:
        skip(
            f"{distribution} has no RECORD of its files; pip install its wheel to check what it"
            " holds"
        )
    return module.partition(":")[0].partition(".")[0] in {
        file.parts[0].partition(".")[0] for file in files
    }
