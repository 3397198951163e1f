"""One step in parts: its gradients are those of the whole batch, whatever the parts, and it goes on
with smaller ones where memory runs out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mismatch.backbones.base import Backbone
from mismatch.backbones.registry import load_backbone
from mismatch.data.pairs import Row
from mismatch.errors import BackboneError, DeviceError
from mismatch.runtime.tokenize import Tokenizer
from mismatch.training.detector import Detector
from mismatch.training.distributed.processes import Processes
from mismatch.training.feeds.batches import Batch, PairSet, make_batches
from mismatch.training.feeds.feeds import EmbeddingFeed, PixelFeed, PixelStore, TowerPart
from mismatch.training.head import CosineHead, build_head, head_spec_for
from mismatch.training.objective import TrainingObjective
from mismatch.training.optim import build_optimizer
from mismatch.training.step import Step, compile_towers
from tests.support.backbones import ToyBackbone

ALONE = Processes(torch.device("cpu"))
AT = (1, 0)  # epoch, step


class Towers(ToyBackbone):
    """Dropout in the image tower, and no more memory than for `room` images."""

    def __init__(self, dropout: float, room: int = 10_000) -> None:
        layers = (nn.Linear(192, 24), nn.GELU(), nn.Dropout(dropout), nn.Linear(24, 12))
        super().__init__(nn.Sequential(nn.Flatten(), *layers))
        self.room = room
        self.sizes: list[int] = []

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        self.sizes.append(len(pixel_values))
        if len(pixel_values) > self.room:
            raise torch.OutOfMemoryError("no more")
        return super().encode_image(pixel_values)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(before)


@pytest.fixture
def pairs(tmp_path: Path) -> PairSet:
    """32 rows over 24 images and 9 texts of several lengths."""
    noise = np.random.default_rng(0)
    for i in range(24):
        Image.fromarray(noise.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png"
        )
    texts = [
        f"{colour} {thing}{' bag' * (i % 2)}"
        for i, colour in enumerate(("red", "green", "blue"))
        for thing in ("shirt", "shoe", "bag")
    ]
    rows = [Row(i + 2, f"{i % 24}.png", texts[i % 9], int(i % 3 > 0), {}, None) for i in range(32)]
    return PairSet.from_rows("rows.csv", rows, str(tmp_path))


def stepper(backbone: Backbone, **options: Any) -> Step:
    torch.manual_seed(3)
    head = build_head(head_spec_for(backbone, "adapter", hidden_dim=16, dropout=0.2), backbone)
    assert isinstance(head, CosineHead)
    detector = Detector(backbone, head).train()
    optimizer = build_optimizer(detector, backbone_rate=1e-2, head_rate=1e-2, weight_decay=0.01)
    return Step(
        detector,
        TrainingObjective(head, "truncate", 0.5),
        optimizer,
        ALONE,
        **{"rows": 32} | options,
    )


def whole(pairs: PairSet, backbone: Backbone) -> tuple[PixelFeed, Batch, Any]:
    """All rows as one batch."""
    feed = PixelFeed(
        pairs, PixelStore(backbone.image_spec), Tokenizer(backbone.text_spec), 0, ALONE
    )
    [(batch, inputs)] = feed.stream(make_batches(pairs, 32, 0, 1))
    return feed, batch, inputs


def gradients(step: Step) -> dict[str, Tensor]:
    return {
        name: parameter.grad.clone()
        for name, parameter in step.detector.named_parameters()
        if parameter.grad is not None
    }


def gap(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(
        float((ours[name] - theirs[name]).abs().max() / theirs[name].abs().max().clamp(min=1e-6))
        for name in theirs
    )


@pytest.mark.parametrize("count", [2, 4, 5, 32])
def test_accumulation_has_the_gradients_of_the_whole_batch_contrastive_term_included(
    pairs: PairSet, colour_engine: Any, count: int
) -> None:
    backbone = Towers(dropout=0.0)
    found = {}
    for parts in (1, count):
        step = stepper(backbone, parts=parts)
        losses = step.gradients(*whole(pairs, backbone), AT)
        found[parts] = gradients(step)
        assert losses[0] > 0.3, "binary"
        assert losses[1] > 1.5, "contrastive, of 20 matched pairs"
    assert gap(found[count], found[1]) < 1e-4


def test_a_contrastive_term_of_parts_alone_would_be_another(
    pairs: PairSet, colour_engine: Any
) -> None:
    """That the test above can fail: with the negatives of a quarter of the batch the gradients are
    far away.
    """
    backbone = Towers(dropout=0.0)
    step = stepper(backbone)
    feed, batch, inputs = whole(pairs, backbone)
    step.gradients(feed, batch, inputs, AT)
    right, total = gradients(step), dict[str, Tensor]()
    for small in make_batches(pairs, 8, 0, 1):
        [(_, share)] = feed.stream([small])
        step.gradients(feed, small, share, AT)
        for name, value in gradients(step).items():
            total[name] = total.get(name, torch.zeros(())) + value / 4
    assert gap(total, right) > 0.05


@pytest.mark.parametrize("count", [1, 4])
def test_dropout_in_a_tower_is_the_same_in_both_passes(
    pairs: PairSet, colour_engine: Any, count: int
) -> None:
    """Against a graph over all parts at once, each drawn from its own seed."""
    backbone = Towers(dropout=0.5)
    step = stepper(backbone, parts=count)
    feed, batch, inputs = whole(pairs, backbone)
    losses = step.gradients(feed, batch, inputs, AT)
    found = gradients(step)
    step.optimizer.zero_grad()
    parts = feed.parts(inputs, count)
    outputs = [step._encode(feed, parts, i, AT, graph=True) for i in range(len(parts))]
    tables = []
    for is_image in (True, False):
        places = np.concatenate([part.places for part in parts if part.is_image == is_image])
        tables.append(
            torch.cat(
                [
                    output
                    for part, output in zip(parts, outputs, strict=True)
                    if part.is_image == is_image
                ]
            )[torch.from_numpy(np.argsort(places))]
        )
    step._draw(AT, 0, 0)
    expected = step.objective.losses(batch, *tables)
    step.objective.total(*expected).backward()
    assert losses.tolist() == pytest.approx([float(loss.detach()) for loss in expected], rel=1e-6)
    assert gap(found, gradients(step)) < 1e-4
    assert not torch.equal(outputs[0], step._encode(feed, parts, 0, (1, 1), graph=False)), (
        "another step draws otherwise"
    )


def test_a_step_is_a_function_of_seed_epoch_and_step(pairs: PairSet, colour_engine: Any) -> None:
    backbone = Towers(dropout=0.5)
    feed, batch, inputs = whole(pairs, backbone)

    def after(seed: int, moment: tuple[int, int]) -> Tensor:
        step = stepper(copy.deepcopy(backbone), seed=seed)
        torch.rand(5)  # other draws make no difference
        step(feed, batch, inputs, moment)
        return torch.cat(
            [parameter.detach().reshape(-1) for parameter in step.detector.parameters()]
        )

    assert torch.equal(after(0, (1, 0)), after(0, (1, 0)))
    assert (
        len(
            {
                tuple(after(*which).tolist())
                for which in ((0, (1, 0)), (1, (1, 0)), (0, (2, 0)), (0, (1, 1)))
            }
        )
        == 4
    )


def reset(module: Any) -> None:
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()


def test_out_of_memory_halves_what_goes_at_once_and_takes_the_same_step(
    logged: list[str], pairs: PairSet, colour_engine: Any
) -> None:
    ends = {}
    for room in (10_000, 7):
        backbone = Towers(dropout=0.0)
        torch.manual_seed(9)
        backbone.apply(reset)
        backbone.room = room
        step = stepper(backbone)
        step(*whole(pairs, backbone), AT)
        ends[room] = {
            name: parameter.detach().clone() for name, parameter in step.detector.named_parameters()
        }
    assert (step.parts, step.rows_at_once) == (4, 8)
    assert backbone.sizes[:3] == [24, 12, 6]
    assert logged == [
        f"cpu is out of memory: from here on as with --batch-size {rows} and"
        f" --gradient-accumulation-steps {parts}; a step has its 32 rows as before"
        for rows, parts in ((16, 2), (8, 4))
    ]
    assert max(float((ends[7][name] - ends[10_000][name]).abs().max()) for name in ends[7]) < 1e-5


def test_memory_for_not_even_one_row_is_an_error_in_words(
    pairs: PairSet, colour_engine: Any
) -> None:
    backbone = Towers(dropout=0.0, room=0)
    with pytest.raises(
        DeviceError,
        match="cpu is out of memory even with one row at a time; use `gradient_checkpointing`",
    ):
        stepper(backbone)(*whole(pairs, backbone), AT)


def test_its_state_goes_on_where_it_was(colour_engine: Any) -> None:
    backbone = Towers(dropout=0.0)
    before, after = stepper(backbone, parts=8), stepper(backbone)
    after.load_state_dict(before.state_dict())
    assert (after.parts, after.rows_at_once) == (8, 4)


def test_known_embeddings_need_no_tower_and_no_parts(pairs: PairSet, colour_engine: Any) -> None:
    backbone = Towers(dropout=0.0, room=0).requires_grad_(False)
    feed = EmbeddingFeed(pairs, torch.randn(24, 12), torch.randn(9, 7))
    [(batch, inputs)] = feed.stream(make_batches(pairs, 32, 0, 1))
    found = {}
    for parts in (1, 4):
        step = stepper(backbone, parts=parts)
        step.gradients(feed, batch, inputs, AT)
        found[parts] = gradients(step)
    assert all(name.startswith("head.") for name in found[1])
    assert gap(found[4], found[1]) == 0
    with pytest.raises(NotImplementedError):
        feed.embed(step.detector, TowerPart(True, np.arange(1), ()))


def test_a_frozen_tower_gets_no_gradient_and_the_other_its_own(
    pairs: PairSet, colour_engine: Any
) -> None:
    backbone = Towers(dropout=0.0)
    backbone.words.requires_grad_(False)
    step = stepper(backbone, parts=2)
    step.gradients(*whole(pairs, backbone), AT)
    assert {name.split(".")[1] for name in gradients(step) if name.startswith("backbone")} == {
        "image_tower"
    }


def test_bf16_is_near_fp32_and_leaves_weights_and_gradients_fp32(
    pairs: PairSet, colour_engine: Any
) -> None:
    backbone = Towers(dropout=0.0)
    found = {}
    for precision, parts in (("fp32", 1), ("bf16", 1), ("bf16", 2)):
        step = stepper(backbone, precision=precision, parts=parts)
        step.gradients(*whole(pairs, backbone), AT)
        found[precision, parts] = gradients(step)
        assert {value.dtype for value in found[precision, parts].values()} == {torch.float32}
    for parts in (1, 2):
        assert 1e-5 < gap(found["bf16", parts], found["fp32", 1]) < 0.1


@pytest.mark.parametrize("family", ["hf-clip", "openclip"])
def test_checkpointing_keeps_less_and_gives_the_same_gradients(family: str) -> None:
    backbone = load_backbone(f"{family}:tiny").train()
    size = backbone.image_spec.size
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    ids = torch.from_numpy(
        Tokenizer(backbone.text_spec)(["a red shirt", "a blue bag of linen"]).input_ids
    )
    found, kept = [], list[int]()
    for _ in range(2):
        backbone.zero_grad()
        kept.append(0)

        def keep(tensor: Tensor) -> Tensor:
            kept[-1] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = (
                backbone.encode_image(pixels).square().sum()
                + backbone.encode_text(ids, torch.ones_like(ids)).square().sum()
            )
        output.backward()
        found.append(
            {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}
        )
        backbone.checkpoint_gradients()
    assert gap(found[1], found[0]) < 1e-4
    assert kept[1] < kept[0] / 2


def test_a_backbone_without_checkpointing_says_so(colour_engine: Any) -> None:
    with pytest.raises(
        BackboneError,
        match="small offers no gradient checkpointing; leave `gradient_checkpointing` out",
    ):
        Towers(0.0).checkpoint_gradients()


@pytest.mark.parametrize(
    ("features", "image"),
    [((), "encode_image"), (("image-levels", "colour"), "encode_image_and_levels")],
)
def test_both_towers_are_compiled_and_upstreams_weights_keep_their_names(
    monkeypatch: pytest.MonkeyPatch, features: tuple[str, ...], image: str
) -> None:
    backbone = load_backbone("hf-clip:tiny")
    backbone.levels_dim = 4
    detector = Detector(
        backbone, build_head(head_spec_for(backbone, "adapter", features=features), backbone)
    )
    names, compiled = list(detector.state_dict()), list[tuple[str, bool]]()

    def mark(function: Any, *, dynamic: bool) -> Any:
        compiled.append((function.__name__, dynamic))
        return function

    monkeypatch.setattr(torch, "compile", mark)
    compile_towers(detector)
    assert compiled == [(image, True), ("encode_text", True)]
    assert list(detector.state_dict()) == names
