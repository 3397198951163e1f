"""Tuning modes: only what should move moves, frozen parts stay in eval mode, and a checkpoint of
any mode is one plain folder that predicts as the run did.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mismatch
from mismatch.backbones.base import Backbone
from mismatch.export.onnx import export_bundle
from mismatch.training import TrainConfig, train
from mismatch.training.checkpoint import load_detector
from mismatch.training.detector import Detector
from mismatch.training.engine import open_checkpoint
from mismatch.training.folder.history import Validation
from mismatch.training.head import build_head, head_spec_for
from mismatch.training.optim import build_optimizer, rate_of
from mismatch.training.tuning.towers import find_towers
from mismatch.training.tuning.weights import Tuning
from tests.support.backbones import ToyBackbone, tiny
from tests.support.pictures import tinted
from tests.support.rows import WriteRows

pytestmark = pytest.mark.usefixtures("one_thread")


def config(tune: str, **options: Any) -> TrainConfig:
    return TrainConfig(train_csv="t.csv", tune=tune, **options)


class Layer(nn.Module):
    """A block with all that behaves otherwise in training."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.dropout = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.norm(self.linear(x)))  # type: ignore[no-any-return]


class NormedTower(nn.Module):
    """Three blocks with batch norm and dropout, and a batch norm without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 6)
        self.layers = nn.ModuleList(Layer() for _ in range(3))
        self.last = nn.BatchNorm1d(6, affine=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.stem(pixel_values.mean((2, 3)))
        for layer in self.layers:
            x = layer(x)
        return self.last(x)  # type: ignore[no-any-return]


@pytest.fixture
def normed() -> Backbone:
    """Its text tower has no blocks."""
    torch.manual_seed(0)
    return ToyBackbone(NormedTower(), (6, 5))


def short(name: str) -> str:
    """The name of a weight or module in its tower."""
    return name.removeprefix("image_tower.")


def trained_names(backbone: Backbone) -> set[str]:
    named = backbone.named_parameters()
    return {short(name) for name, parameter in named if parameter.requires_grad}


# --- what trains


def test_head_freezes_all_and_full_trains_all(normed: Backbone) -> None:
    head = Tuning(config("head"), normed)
    assert (head.frozen, trained_names(normed), head.state(), head.factors) == (True, set(), {}, {})
    full = Tuning(config("full"), normed)
    assert (full.frozen, trained_names(normed), full.factors) == (
        False,
        {short(name) for name, _ in normed.named_parameters()},
        {},
    )


def test_last_n_trains_the_last_blocks_and_says_where_a_tower_has_no_so_many(
    logged: list[str],
    normed: Backbone,
) -> None:
    Tuning(config("last-2"), normed)
    kinds = ("linear.weight", "linear.bias", "norm.weight", "norm.bias")
    assert trained_names(normed) == {f"layers.{i}.{kind}" for i in (1, 2) for kind in kinds} | {
        "words.weight"
    }
    assert logged == [
        "the text tower has no blocks, so --tune last-2 trains all of it",
        "--tune last-2: 163 of the backbone's 241 weights train",
    ]


@pytest.mark.parametrize(("tune", "stem"), [("last-3", False), ("last-4", True)])
def test_the_stem_trains_only_where_more_blocks_are_asked_for_than_there_are(
    logged: list[str], normed: Backbone, tune: str, stem: bool
) -> None:
    Tuning(config(tune), normed)
    assert ("stem.weight" in trained_names(normed)) == stem
    assert ("the image tower has 3 blocks, so --tune last-4 trains all of it" in logged) == stem


# --- in which mode


def in_training(backbone: Backbone) -> set[str]:
    return {
        short(name)
        for name, module in backbone.named_modules()
        if module.training and not list(module.children())
    }


def test_frozen_parts_are_in_eval_mode(normed: Backbone) -> None:
    Tuning(config("last-1"), normed).train_mode()
    assert in_training(normed) == {"layers.2.linear", "layers.2.norm", "layers.2.dropout", "words"}
    Tuning(config("full"), normed).train_mode()
    assert len(in_training(normed)) == 12
    Tuning(config("head"), normed).train_mode()
    assert in_training(normed) == set()


def test_lora_drops_nothing_but_before_its_adapters(normed: Backbone) -> None:
    Tuning(config("lora"), normed).train_mode()
    assert {name.rpartition("layers.")[2] for name in in_training(normed)} == {
        f"{i}.linear.lora_dropout.default" for i in range(3)
    }


@pytest.mark.parametrize(
    ("tune", "moved"),
    [
        ("last-1", {"layers.2.norm"}),
        ("lora", set()),
        ("full", {"layers.0.norm", "layers.1.norm", "layers.2.norm", "last"}),
    ],
)
def test_batch_norm_keeps_its_statistics_where_it_is_frozen(
    normed: Backbone, tune: str, moved: set[str]
) -> None:
    tuning = Tuning(config(tune), normed)
    before = {
        name: buffer.clone()
        for name, buffer in normed.named_buffers()
        if name.endswith("running_mean")
    }
    tuning.train_mode()
    normed.encode_image(torch.randn(4, 3, 8, 8))
    assert {
        short(name.removesuffix(".running_mean"))
        for name, buffer in normed.named_buffers()
        if name in before and not torch.equal(buffer, before[name])
    } == moved


def test_nothing_below_the_first_trained_block_keeps_a_graph(normed: Backbone) -> None:
    Tuning(config("last-1"), normed).train_mode()
    needed: list[bool] = []
    normed.get_submodule("image_tower.layers.2").register_forward_pre_hook(
        lambda module, args: needed.append(args[0].requires_grad)
    )
    assert normed.encode_image(torch.randn(4, 3, 8, 8)).requires_grad
    assert needed == [False]


@pytest.mark.parametrize("tune", ["lora", "last-2"])
def test_gradient_checkpointing_computes_trained_blocks_again_and_gives_the_same_gradients(
    family: str, tune: str
) -> None:
    gradients, passes = [], []
    for again in (False, True):
        backbone, calls = tiny(family), list[int]()
        if again:
            backbone.checkpoint_gradients()
        torch.manual_seed(0)
        options: dict[str, Any] = {"lora_dropout": 0.0} if tune == "lora" else {}
        Tuning(config(tune, gradient_checkpointing=again, **options), backbone).train_mode()
        next(find_towers(backbone)[0].blocks[-1].children()).register_forward_pre_hook(
            lambda *_, calls=calls: calls.append(1)
        )
        torch.manual_seed(1)
        backbone.encode_image(torch.randn(2, 3, 64, 64)).square().sum().backward()
        gradients.append(
            {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}
        )
        passes.append(len(calls))
    assert passes == [1, 2]
    assert gradients[0].keys() == gradients[1].keys()
    assert all(
        torch.allclose(gradients[0][name], gradients[1][name], atol=1e-6) for name in gradients[0]
    )


# --- at which rate


def peaks(backbone: Backbone, tuning: Tuning) -> dict[str, float]:
    detector = Detector(backbone, build_head(head_spec_for(backbone, "adapter"), backbone))
    optimizer = build_optimizer(
        detector, backbone_rate=1e-4, head_rate=1e-3, weight_decay=0.01, factors=tuning.factors
    )
    names = {parameter: short(name) for name, parameter in backbone.named_parameters()}
    assert rate_of(optimizer, "backbone") == 1e-4
    return {
        names[p]: group["peak"]
        for group in optimizer.param_groups
        if group["part"] == "backbone"
        for p in group["params"]
    }


def test_layer_decay_lowers_the_rate_block_by_block_and_embeddings_learn_slowest(
    normed: Backbone,
) -> None:
    found = peaks(normed, Tuning(config("full", layer_decay=0.5), normed))
    expected = {
        "layers.2.linear.weight": 1e-4,
        "layers.1.norm.bias": 5e-5,
        "layers.0.linear.weight": 2.5e-5,
        "stem.weight": 1.25e-5,
        "words.weight": 1e-4,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert len(found) == len(list(normed.parameters()))
    last = peaks(normed, Tuning(config("last-2", layer_decay=0.5), normed))
    assert {
        name: last[name] for name in ("layers.2.norm.weight", "layers.1.norm.weight")
    } == pytest.approx({"layers.2.norm.weight": 1e-4, "layers.1.norm.weight": 5e-5})
    assert set(peaks(normed, Tuning(config("last-2"), normed)).values()) == {1e-4}


# --- what is saved


@pytest.mark.parametrize("tune", ["full", "last-1", "lora"])
def test_the_state_brings_a_fresh_start_to_where_training_was(family: str, tune: str) -> None:
    first, second = tiny(family), tiny(family)
    torch.manual_seed(1)
    tuning = Tuning(config(tune), first)
    for parameter in first.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    state = {name: tensor.clone() for name, tensor in tuning.state().items()}
    torch.manual_seed(2)
    other = Tuning(config(tune), second)
    with torch.no_grad():
        for name, tensor in other.state().items():
            tensor.copy_(state[name])
    ids, pixels = torch.randint(1000, 2000, (3, 9)), torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in (
            (m.encode_image(pixels), m.encode_text(ids, torch.ones_like(ids)))
            for m in (first.eval(),)
        ):
            assert torch.equal(ours, second.eval().encode_image(pixels))
            assert torch.equal(theirs, second.encode_text(ids, torch.ones_like(ids)))


def test_weights_that_take_others_places_have_their_factors(family: str) -> None:
    backbone = tiny(family)
    tuning = Tuning(config("full", layer_decay=0.5), backbone)
    factors = {
        name: tuning.factors[parameter]
        for name, parameter in backbone.named_parameters()
        if parameter in tuning.factors
    }
    assert {0.5, 1.0} < set(factors.values())
    with tuning.replacing():
        assert tuning.factors == {}, "the old ones are let go"
        for module in backbone.modules():
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, torch.nn.Parameter(parameter.detach().clone()))
    assert {
        name: tuning.factors[parameter]
        for name, parameter in backbone.named_parameters()
        if parameter in tuning.factors
    } == factors


@pytest.fixture
def catalogue(tmp_path: Path, write_rows: WriteRows) -> Path:
    """12 photos of one colour each, and 36 rows in train.csv."""
    noise = np.random.default_rng(0)
    rows = []
    for i in range(12):
        tinted(noise, i, 16).save(tmp_path / f"{i}.png")
        rows += [
            (f"{i}.png", f"a {said} shirt", int(said == ("red", "green", "blue")[i % 3]))
            for said in ("red", "green", "blue")
        ]
    write_rows(tmp_path / "train.csv", [("image_path", "text", "label"), *rows])
    return tmp_path


@pytest.mark.parametrize("tune", ["lora", "last-1"])
def test_a_checkpoint_is_one_plain_folder_that_predicts_as_the_run_did(
    catalogue: Path, family: str, tune: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits: list[Any] = []
    real = Validation.of

    def of(found: Any, labels: Any, objective: Any) -> Validation:
        logits.append(found)
        return real(found, labels, objective)

    monkeypatch.setattr(Validation, "of", of)
    rows = str(catalogue / "train.csv")
    options: dict[str, Any] = {
        "train_csv": rows,
        "val_csv": rows,
        "image_base_path": str(catalogue),
        "backbone": family,
        "model_name": "tiny",
    }
    options |= {
        "output_dir": str(catalogue / "out"),
        "device": "cpu",
        "num_workers": 0,
        "epochs": 2,
        "batch_size": 12,
        "learning_rate": 5e-3,
    }
    result = train(TrainConfig(**options, tune=tune))
    assert result.stats["learning_rates"][0] > 0

    monkeypatch.setitem(sys.modules, "peft", None)  # as where it is not installed
    for epoch in (1, 2):
        predictor = mismatch.load(catalogue / "out" / f"checkpoint_epoch_{epoch}", "cpu")
        pairs = [
            dict(zip(("image_path", "text"), line.split(","), strict=False))
            for line in Path(rows).read_text().splitlines()[1:]
        ]
        scored = predictor.predict_pairs(pairs, image_base_path=catalogue)
        found: list[Any] = [p.logit for p in scored]
        np.testing.assert_allclose(found, logits[epoch - 1], atol=1e-4)
    assert np.abs(logits[1] - logits[0]).max() > 0.01

    before, after = tiny(family), load_detector(result.final_model)[0].backbone
    assert before.state_dict().keys() == after.state_dict().keys()
    moved = {
        name
        for name, tensor in after.state_dict().items()
        if not torch.equal(tensor, before.state_dict()[name])
    }
    assert moved == expected_to_move(before, tune)
    if (family, tune) == ("openclip", "lora"):
        report = export_bundle(
            open_checkpoint(result.final_model, provider="cpu"), catalogue / "bundle"
        ).parity
        assert (report.flipped_decisions, report.max_score_difference < 1e-4) == (0, True)


def expected_to_move(backbone: Backbone, tune: str) -> set[str]:
    """Of the tiny models: the weights of the last block of each tower and what follows, or the
    matrices of all blocks.
    """
    if tune == "last-1":
        Tuning(config(tune), backbone)
        moving = trained_names(backbone)
        assert len(moving) == {"hf-clip": 38, "openclip": 30}[load_family(backbone)]
        return moving
    matrices = {
        name
        for name, weight in backbone.named_parameters()
        if weight.ndim == 2 and (".layers." in name or ".resblocks." in name)
    }
    assert len(matrices) == {"hf-clip": 36, "openclip": 24}[load_family(backbone)]
    return matrices


def load_family(backbone: Backbone) -> str:
    return (
        "hf-clip"
        if any(".layers." in name for name, _ in backbone.named_parameters())
        else "openclip"
    )
