"""--fsdp: two processes with half of the backbone each train what two with all of it do, and what
they write and resume from is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from mismatch.backbones.features import features_offered
from mismatch.backbones.registry import load_backbone
from mismatch.errors import DeviceError, InputError
from mismatch.runtime.tokenize import Tokenizer
from mismatch.training.config import TrainConfig
from mismatch.training.detector import Detector
from mismatch.training.distributed import fsdp
from mismatch.training.distributed.fsdp import Shards, as_launched, gather, shards_towers
from mismatch.training.distributed.processes import Processes
from mismatch.training.feeds.batches import Batch, PairSet
from mismatch.training.feeds.feeds import TowerPart
from mismatch.training.head import CosineHead, build_head, head_spec_for
from mismatch.training.objective import TrainingObjective
from mismatch.training.optim import build_optimizer
from mismatch.training.step import Step
from tests.support.launching import (
    ACCELERATE,
    FORKED,
    check_curves,
    furthest,
    run_program,
    run_training,
    trained,
    write_training_rows,
)
from tests.support.paths import WHOLE

FAMILIES = ("hf-clip", "openclip")
FULL = ("--tune", "full", "--learning-rate", 1e-4, "--batch-size", 8)
GOING_ON = (
    "--tune",
    "full",
    "--learning-rate",
    1e-4,
    "--layer-decay",
    0.8,
    "--checkpoint-steps",
    2,
)
LAUNCHED = f"{ACCELERATE} --use_fsdp --fsdp_version 2"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rows(module_folder: Path) -> Path:
    write_training_rows(module_folder)
    return module_folder


# --- two processes

PROBE = """
import json, sys
from pathlib import Path
import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor
from mismatch.backbones.registry import load_backbone
from mismatch.training.detector import Detector
from mismatch.training.distributed.fsdp import ShardedOptimizer, ShardedWeights, Shards
from mismatch.training.head import build_head, head_spec_for
from mismatch.training.optim import build_optimizer
from mismatch.training.distributed.processes import Processes
from mismatch.training.folder.state import Weights

def shard(tensor, like):
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None) if isinstance(like, DTensor) else tensor.clone()

def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)

def gradients(detector):
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(part.shape, generator=generator) for name, part in detector.named_parameters()}  # the same in each process

def detector_of(family):
    backbone = load_backbone(family, str(Path(sys.argv[2]) / family))
    torch.manual_seed(0)
    return Detector(backbone, build_head(head_spec_for(backbone, "adapter"), backbone))

def optimizer_of(detector):
    return build_optimizer(detector, backbone_rate=0.1, head_rate=0.1, weight_decay=0.01)

processes, found = Processes.start("cpu"), {}
for family in sys.argv[3:]:
    plain, detector = detector_of(family), detector_of(family)
    names = [name for name, _ in plain.named_parameters()]
    shards = Shards(detector, processes)
    optimizers = [optimizer_of(one) for one in (plain, detector)]
    for name, part in plain.named_parameters():
        part.grad = gradients(plain)[name]
    for name, part in detector.named_parameters():
        part.grad = shard(gradients(detector)[name], part)
    nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
    shards.clip([*detector.parameters()], 1.0)
    optimizers[0].step()
    shards.step(optimizers[1])
    weights = ShardedWeights(Weights(detector), shards)
    states = weights.state_dict(), ShardedOptimizer(optimizers[1], shards).state_dict()
    sharded = [part for part in detector.backbone.parameters() if isinstance(part, DTensor)]
    held = sum(part.to_local().numel() for part in sharded)
    facts = {"names": [name for name, _ in detector.named_parameters()] == names, "held": held, "all": sum(part.numel() for part in sharded)}
    facts["whole"] = [name for name, part in detector.backbone.named_parameters() if not isinstance(part, DTensor)]
    facts["averages held"] = sum(optimizers[1].state[part]["exp_avg"].to_local().numel() for part in sharded)
    with shards.gathered():
        facts["gathered"] = not any(isinstance(part, DTensor) for part in detector.parameters())
        if processes.main:
            detector.backbone.save_pretrained(Path(sys.argv[1]) / family)
    if processes.main:
        wanted = [Weights(plain).state_dict(), optimizers[0].state_dict()]
        facts["weights"] = max(float((states[0][name] - tensor).abs().max()) for name, tensor in wanted[0].items())
        averages = [(states[1]["state"][i], one) for i, one in wanted[1]["state"].items()]
        facts["averages"] = max(float((ours[name] - tensor).abs().max()) for ours, theirs in averages for name, tensor in theirs.items())
        facts["groups"] = states[1]["param_groups"] == wanted[1]["param_groups"]
        saved = load_backbone(family, str(Path(sys.argv[1]) / family)).state_dict()
        facts["saved"] = same(saved, {name.removeprefix("backbone."): tensor for name, tensor in states[0].items() if name.startswith("backbone.")})
        torch.save(states, Path(sys.argv[1]) / "states.pt")
    else:
        facts["empty"] = sum(tensor.numel() for name, tensor in states[0].items() if name.startswith("backbone.") and tensor.ndim)
    processes.wait()
    for part in detector.parameters():
        part.data.zero_()
    states = torch.load(Path(sys.argv[1]) / "states.pt")
    weights.load_state_dict(states[0])
    fresh = ShardedOptimizer(optimizer_of(detector), shards)
    fresh.load_state_dict(states[1])
    again = weights.state_dict(), fresh.state_dict()
    if processes.main:
        facts["weights again"] = same(again[0], states[0])
        facts["averages again"] = all(same(again[1]["state"][i], one) for i, one in states[1]["state"].items())
    processes.wait()
    found[family] = facts
(Path(sys.argv[1]) / f"found-{processes.index}.json").write_text(json.dumps(found))
processes.end()
"""


@pytest.mark.slow
def test_each_process_holds_half_of_the_towers_and_their_state_is_whole(
    rows: Path, tmp_path: Path
) -> None:
    done = run_program(rows, PROBE, tmp_path, rows, *FAMILIES)
    assert done.returncode == 0, done.stderr
    both = [json.loads((tmp_path / f"found-{index}.json").read_text()) for index in (0, 1)]
    for family in FAMILIES:
        main, other = (found[family] for found in both)
        assert main["all"] == other["all"] > 20_000
        assert main["held"] + other["held"] == main["all"]
        assert abs(main["held"] - other["held"]) < 0.01 * main["all"]
        for found in (main, other):
            assert found["averages held"] == found["held"]
            assert found["whole"] == ["model.logit_scale"]
            assert found["names"]
        assert (main["gathered"], other["gathered"], other["empty"]) == (True, False, 0)
        assert max(main["weights"], main["averages"]) < 1e-5, (
            "clipped and updated as plain ones are"
        )
        assert all(main[name] for name in ("groups", "saved", "weights again", "averages again"))


def check_sharded(rows: Path, name: str, *options: object) -> None:
    """Two processes with and without --fsdp write the same."""
    plain, stats, _ = trained(rows, f"{name}-plain", *options, launcher=FORKED)
    sharded, found, _ = trained(rows, f"{name}-sharded", *options, "--fsdp", launcher=FORKED)
    assert furthest(sharded, plain) < 2e-4
    # a weight's last digit decides how bf16 rounds it; one process and two differ by 1e-2
    check_curves(found, stats, 3e-3 if "bf16" in options else 1e-4)
    files = [
        {path.relative_to(rows / run).as_posix() for path in (rows / run).rglob("*")}
        for run in (f"{name}-plain", f"{name}-sharded")
    ]
    assert files[0] == files[1]
    configs = [
        sorted((rows / run / "final_model").glob("*config.json"))
        for run in (f"{name}-plain", f"{name}-sharded")
    ]
    assert [path.read_text() for path in configs[0]] == [path.read_text() for path in configs[1]]


@pytest.mark.slow
def test_two_processes_with_half_of_the_weights_train_what_one_with_all_does(rows: Path) -> None:
    one, stats, _ = trained(rows, "one", *FULL, "--batch-size", 16)
    two, found, said = trained(rows, "two", *FULL, "--fsdp", launcher=FORKED)
    assert furthest(two, one) < 2e-4
    check_curves(found, stats)
    line = (
        "--fsdp: 4 blocks and what is around them over 2 processes, 34,993 of the backbone's 69,953"
        " weights in this one"
    )
    assert said.count(line) == 1


MODES = [  # the first two each day
    # a last step of one row, of which one process has no part
    (*FULL, "--batch-size", 1, "--gradient-accumulation-steps", 20, "--head", "cosine"),
    # of a matrix with one row the second process has nothing
    ("--tune", "lora", "--lora-rank", 1, "--batch-size", 8),
    FULL,
    (*FULL, "--backbone", "openclip", "--layer-decay", 0.7, "--dropout", 0.1),
    (
        *FULL,
        "--backbone",
        "openclip",
        "--batch-size",
        2,
        "--gradient-accumulation-steps",
        5,
        "--gradient-checkpointing",
    ),
    (*FULL, "--precision", "bf16", "--gradient-checkpointing"),
    ("--tune", "last-1", "--learning-rate", 1e-4, "--batch-size", 8),
    (
        "--tune",
        "lora",
        "--batch-size",
        8,
        "--backbone",
        "openclip",
        "--gradient-accumulation-steps",
        2,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    MODES if WHOLE else MODES[:2],
    ids=lambda options: " ".join(map(str, options)),
)
def test_each_mode_trains_the_same_in_shards(
    rows: Path, options: tuple[object, ...], request: pytest.FixtureRequest
) -> None:
    check_sharded(rows, f"mode-{abs(hash(request.node.name))}", *options)


@pytest.mark.slow
@pytest.mark.skipif(
    not WHOLE, reason="WHOLE=1 runs accelerate's FSDP; test_processes runs accelerate"
)
def test_accelerates_launcher_asks_for_it_too(rows: Path) -> None:
    """With the classes to shard by named and its activation checkpointing, which is
    --gradient-checkpointing here.
    """
    plain, stats, _ = trained(
        rows, "launched-plain", *FULL, "--gradient-checkpointing", launcher=FORKED
    )
    how = (
        "--fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP --fsdp_transformer_layer_cls_to_wrap"
        " CLIPEncoderLayer --fsdp_activation_checkpointing true"
    )
    found, found_stats, said = trained(
        rows, "launched", *FULL, launcher=f"{LAUNCHED} {how} --fsdp_reshard_after_forward false"
    )
    assert furthest(found, plain) < 2e-4
    check_curves(found_stats, stats)
    assert "--fsdp: 4 blocks" in said
    assert {name: found_stats["config"][name] for name in ("fsdp", "gradient_checkpointing")} == {
        "fsdp": True,
        "gradient_checkpointing": True,
    }


@pytest.fixture(scope="module")
def undisturbed(rows: Path) -> Any:
    return trained(rows, "undisturbed", *GOING_ON, "--batch-size", 16)


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [1, "checkpoint_last"] if WHOLE else ["checkpoint_last"])
@pytest.mark.parametrize(
    ("then", "now"),
    [((FORKED, "--fsdp"), (None,)), ((None,), (FORKED, "--fsdp")), ((FORKED, "--fsdp"), (FORKED,))],
    ids=str,
)
def test_a_sharded_run_goes_on_whole_and_a_whole_one_sharded(
    rows: Path, undisturbed: Any, then: Any, now: Any, stop_after: int | str
) -> None:
    """Killed behind its first epoch, or within it, and resumed by other means: as one that was
    never disturbed.
    """
    options = (*GOING_ON, "--batch-size", 8 if then[0] else 16)
    name = f"moved-{abs(hash((then, now, stop_after)))}"
    killed = run_training(rows, name, *options, *then[1:], launcher=then[0], stop_after=stop_after)
    assert killed.returncode != 0
    assert ("epoch 1/2" in killed.stdout) == (stop_after == 1)
    moved, went_on, said = trained(rows, name, *options, *now[1:], "--resume", launcher=now[0])
    engines = [
        f"cpu in fp32{' on 2 processes' * (launcher is not None)}{', sharded' * bool(more)}"
        for launcher, *more in (then, now)
    ]
    assert f"{engines[0]} then, {engines[1]} now" in said
    assert furthest(moved, undisturbed[0]) < 2e-4
    check_curves(went_on, undisturbed[1])
    assert len(went_on["train_losses"]) == 2


# --- one process, and what is refused


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Processes]:
    """One process in a group of its own, over which a backbone can be sharded."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    yield Processes(CPU)
    torch.distributed.destroy_process_group()


def detector_of(backbone: Any) -> Detector:
    return Detector(backbone, build_head(head_spec_for(backbone, "cosine"), backbone))


def test_blocks_are_gathered_one_by_one_and_shared_weights_stay_whole(
    logged: list[str], group: Processes
) -> None:
    backbone: Any = load_backbone("hf-clip", "tiny")
    image, text = backbone.model.vision_model, backbone.model.text_model
    # of two blocks
    text.encoder.layers[1].layer_norm1.bias = image.encoder.layers[0].layer_norm1.bias
    shards = Shards(detector_of(backbone), group)
    units = [module for module in backbone.modules() if isinstance(module, FSDPModule)]
    assert set(units) == {backbone, *text.encoder.layers, *image.encoder.layers}
    whole = {id(backbone.model.logit_scale), id(image.encoder.layers[0].layer_norm1.bias)}
    assert {
        id(parameter) for parameter in backbone.parameters() if not isinstance(parameter, DTensor)
    } == whole
    assert {id(parameter) for parameter in shards.whole_parameters} == whole
    assert logged == [
        (
            "--fsdp: 6 blocks and what is around them over 1 processes, 7,657,729 of the backbone's"
            " 7,657,729 weights in this one"
        )
    ]


KINDS = [  # the first four each day
    ("openclip", "resnet"),
    ("openclip", "nllb"),
    ("hf-clip", "siglip2"),
    ("hf-clip", "dual-encoder-bert"),
]
KINDS += [
    ("openclip", name) for name in ("convnext", "swin", "siglip", "coca", "mobileclip-fastvit")
]
KINDS += [("hf-clip", name) for name in ("align", "groupvit", "aimv2", "flava")]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind"), KINDS if WHOLE else KINDS[:4])
def test_towers_of_every_make_compute_the_same_in_shards(
    group: Processes, tmp_path: Path, family: str, kind: str
) -> None:
    """Embeddings, levels included, gradients, and what is written."""
    made = import_module(f"tests.plugins.test_{family.replace('-', '_')}_kinds").KINDS[kind]
    folder = made.write(tmp_path / "model") if family == "openclip" else made.save(tmp_path)
    plain, sharded = (load_backbone(family, str(folder)) for _ in range(2))
    detectors = [
        Detector(one, build_head(head_spec_for(one, "adapter", features=features_offered(one))))
        for one in (plain, sharded)
    ]
    shards = Shards(detectors[1], group)
    tokens = Tokenizer(plain.text_spec)(["a red shirt", "blue shoe"])
    ids, mask = (torch.from_numpy(array) for array in (tokens.input_ids, tokens.attention_mask))
    pixel_values = torch.randn(
        2,
        3,
        plain.image_spec.size,
        plain.image_spec.size,
        generator=torch.Generator().manual_seed(0),
    )
    for detector in detectors:
        outputs = detector.eval().encode_image(pixel_values), detector.encode_text(ids, mask)
        for output in outputs:
            output.square().mean().backward()
    found = {
        name: gather(part.grad, keep=True)
        for name, part in sharded.named_parameters()
        if part.grad is not None
    }
    wanted = {name: part.grad for name, part in plain.named_parameters() if part.grad is not None}
    assert len(wanted) > 20
    assert furthest(found, wanted) < 1e-5 * max(
        float(gradient.abs().max()) for gradient in wanted.values()
    )
    with shards.gathered():
        sharded.save_pretrained(tmp_path / "saved")
    assert (
        furthest(load_backbone(family, str(tmp_path / "saved")).state_dict(), plain.state_dict())
        == 0
    )


def test_memory_that_runs_out_in_one_process_ends_all(group: Processes) -> None:
    backbone: Any = load_backbone("hf-clip", "tiny")
    detector = detector_of(backbone)
    assert isinstance(detector.head, CosineHead)
    shards = Shards(detector, group)
    step = Step(
        detector,
        TrainingObjective(detector.head, "truncate", 0.5),
        build_optimizer(detector, backbone_rate=1e-4, head_rate=1e-3, weight_decay=0.0),
        group,
        rows=4,
        shards=shards,
    )

    class Full:
        """A feed whose tower has no room."""

        pairs: PairSet

        def parts(self, inputs: Any, count: int) -> list[TowerPart]:
            return [TowerPart(True, np.arange(4), ())]

        def embed(self, detector: Detector, part: TowerPart) -> torch.Tensor:
            raise torch.OutOfMemoryError("no more")

    batch: Any = Batch
    with pytest.raises(
        DeviceError,
        match=(
            "cpu is out of memory, and under `fsdp` one process can't take smaller parts than the"
            " others; lower `batch_size`"
        ),
    ):
        step(Full(), batch, None, (1, 0))  # type: ignore[arg-type]


def config(**options: Any) -> TrainConfig:
    return TrainConfig(train_csv="train.csv", **options)


def test_what_does_not_go_with_it_is_refused_in_one_line() -> None:
    with pytest.raises(
        InputError,
        match=r"^`fsdp` spreads a backbone in training, and `tune='head'` trains none; leave it out$",
    ):
        config(fsdp=True, tune="head")
    with pytest.raises(
        InputError, match=r"^`fsdp` and `compile` don't go together; leave one of them out$"
    ):
        config(fsdp=True, compile=True)
    with pytest.raises(
        InputError, match=r"^`fsdp` and fp16 don't go together: .*; use `precision='bf16'` or fp32$"
    ):
        shards_towers(config(fsdp=True), Processes(CPU, 0, 2), "fp16")
    with pytest.raises(
        DeviceError, match=r"^`fsdp` needs CUDA devices or CPUs, and this is mps; leave it out$"
    ):
        shards_towers(config(fsdp=True), Processes(torch.device("mps"), 0, 2), "fp32")


def test_one_process_alone_is_told_that_it_does_nothing(logged: list[str]) -> None:
    assert not shards_towers(config(fsdp=True), Processes(CPU), "fp32")
    assert not shards_towers(config(), Processes(CPU, 0, 2), "fp32")
    assert shards_towers(config(fsdp=True), Processes(CPU, 0, 2), "fp32")
    assert logged == [
        (
            "--fsdp spreads the backbone over several processes, and this is one alone, so it does"
            " nothing; start more by torchrun --nproc-per-node N"
        )
    ]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of `accelerate launch --use_fsdp --fsdp_version 2`."""
    for name, value in (
        ("ACCELERATE_USE_FSDP", "true"),
        ("FSDP_VERSION", "2"),
        ("FSDP_CPU_RAM_EFFICIENT_LOADING", "true"),
    ):
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_what_accelerate_is_asked_for_counts_as_the_options_do(
    launched: pytest.MonkeyPatch,
) -> None:
    assert as_launched(config()) == config(fsdp=True)
    launched.setenv("FSDP_ACTIVATION_CHECKPOINTING", "true")
    assert as_launched(config()) == config(fsdp=True, gradient_checkpointing=True)
    with pytest.raises(
        InputError,
        match=(
            r"^accelerate launch --use_fsdp: `fsdp` spreads a backbone in training, and `tune='head'`"
            r" trains none"
        ),
    ):
        as_launched(config(tune="head"))
    launched.delenv("ACCELERATE_USE_FSDP")
    assert as_launched(config()) == config()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "FSDP_VERSION",
            "1",
            (
                "accelerate launch --use_fsdp asks for FSDP 1, and mismatch train shards by FSDP 2;"
                " pass --fsdp_version 2"
            ),
        ),
        (
            "FSDP_OFFLOAD_PARAMS",
            "true",
            (
                "accelerate launch --fsdp_offload_params is not supported by mismatch train; leave"
                " it out"
            ),
        ),
        (
            "FSDP_IGNORED_MODULES",
            "model.*",
            (
                "accelerate launch --fsdp_ignored_modules is not supported by mismatch train; leave"
                " it out"
            ),
        ),
        (
            "FSDP_AUTO_WRAP_POLICY",
            "SOME",
            "accelerate's FSDP options can't be used: Invalid auto wrap policy: SOME",
        ),
    ],
)
def test_what_accelerate_offers_and_mismatch_does_not_is_refused(
    launched: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    launched.setenv(name, value)
    with pytest.raises(InputError) as caught:
        as_launched(config())
    assert str(caught.value).startswith(message)


def test_a_class_that_accelerate_names_and_the_backbone_has_not_is_refused() -> None:
    backbone = load_backbone("openclip", "tiny")
    with pytest.raises(
        InputError,
        match="the backbone has no ResidualAttentionBlok; did you mean 'ResidualAttentionBlock'",
    ):
        fsdp._blocks(backbone, ["ResidualAttentionBlok"])
    assert {
        type(block).__name__
        for block in fsdp._blocks(backbone, ["ResidualAttentionBlock", "Transformer"])
    } == {"ResidualAttentionBlock"}
