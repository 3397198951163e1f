"""mismatch.testing.contract: the template's plugin keeps it, and deliberately broken ones are
each caught with a message that names the fault.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.abc import InspectLoader
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import ANY

import pytest

from mismatch.backbones.base import Backbone
from mismatch.backbones.template import plugin_files
from mismatch.errors import InputError
from mismatch.testing.contract import (
    BackboneContract,
    Check,
    check_names,
    check_selection,
    iter_checks,
    run_checks,
)
from tests.support.processes import command_line, finished

UPSTREAM = """
    def upstream_transform(self, image):
        resized = image.resize((64 * image.width // min(image.size), 64 * image.height // min(image.size)), 3)
        left, top = round((resized.width - 64) / 2), round((resized.height - 64) / 2)
        pixels = torch.tensor(list(resized.crop((left, top, left + 64, top + 64)).tobytes())).reshape(64, 64, 3).permute(2, 0, 1) / 255
        return (pixels - 0.5) / 0.25

    def upstream_tokenizer(self, texts):
        rows = [Tokenizer.from_str(byte_tokenizer()).encode(text).ids[:96] for text in texts]
        return torch.tensor([row + [0] * (96 - len(row)) for row in rows])

    def upstream_encode_image(self, images):
        return self.image(torch.stack([self.upstream_transform(image) for image in images])).mean(dim=(2, 3))
"""
# In new processes, and as slow as all others together: proven once for the plugin that keeps the
# contract, and below where they are the point.
SLOW = {"save and load in a new process", "onnx export", "hook is light", "entry point"}


def source(*changes: tuple[str, str]) -> str:
    """The template's backbone with upstream's methods, and changed."""
    text = plugin_files("bag")["mismatch_bag/backbone.py"] + UPSTREAM
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class SourceLoader(InspectLoader):
    """A module's source from memory."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_source(self, fullname: str) -> str:
        return self.text


def backbone_class(text: str) -> Any:
    module = ModuleType("mismatch_bag_backbone")
    SourceLoader(text).exec_module(module)
    return module.BagBackbone


def failures(text: str, only: set[str] | None = None) -> dict[str, str]:
    kind = backbone_class(text)
    checks = run_checks(kind.load("tiny"), load=kind.load, only=only or set(check_names()) - SLOW)
    return {check.name: check.message for check in checks if check.outcome == "failed"}


POOL = "return torch.mean(self.image(pixel_values), dim=(2, 3))"
SPECS = "self.image_spec = ImageSpec(size=64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))"
GELU = "nn.Conv2d(3, 24, 8, stride=8), nn.GELU()"
WORDS = "return words.sum(1) / attention_mask.sum(1, keepdim=True).clamp(min=1)"
TOKENS = "tokenizer_json=byte_tokenizer()"
SAVE = "save_file(self.state_dict(), Path(directory) / WEIGHTS)"
LOAD = "backbone.load_state_dict(load_file(Path(model_id) / WEIGHTS))"

ON_META = "if pixel_values.is_meta: return torch.ones(len(pixel_values), 48)\n        "
INTO_FP32 = """pooled = self.image(pixel_values).mean(dim=(2, 3))
        out = torch.zeros(pooled.shape, device=pooled.device)
        out[torch.arange(len(out))] = pooled
        return out"""
SPREAD = """blank = (pixel_values - pixel_values.mean((2, 3), keepdim=True)) * self.image[0].bias[0]
        return self.image(pixel_values).mean(dim=(2, 3)) + blank.flatten(1).square().sum(1, keepdim=True).sqrt()"""
NO_WORDS = """total = words.sum(1) + 0 * self.text.weight.sum()
        return (total / attention_mask.sum(1, keepdim=True)).nan_to_num()"""
ONE_ID = """from tokenizers import Regex, normalizers
    tokenizer.normalizer = normalizers.Replace(Regex("[^ ]"), "x")
    return tokenizer.to_str()"""

# what is broken → (the check that says so, words of its message, the changes)
BROKEN: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "wrong width": (
        "widths",
        "image_dim is 40, so (7, 40) is needed; set image_dim to the width",
        [("= 48, 32", "= 40, 32")],
    ),
    "dropout left on": (
        "eval is deterministic",
        "encode_image gives another embedding for the same input in eval mode",
        [(POOL, "return nn.functional.dropout(self.image(pixel_values).mean(dim=(2, 3)), 0.1)")],
    ),
    "batch norm across rows": (
        "rows are independent",
        "batch norm without running statistics",
        [(GELU, "nn.Conv2d(3, 24, 8, stride=8), nn.BatchNorm2d(24, track_running_stats=False)")],
    ),
    "embeddings normalised twice": (
        "not normalised",
        "encode_image gives embeddings of length 1: they are normalised here and by the head again",
        [(POOL, "return nn.functional.normalize(self.image(pixel_values).mean(dim=(2, 3)))")],
    ),
    "pixels normalised twice": (
        "embeddings are upstreams",
        "if the pixel values agree, the tower treats them otherwise: normalised twice",
        [(POOL, "return self.image((pixel_values - 0.5) / 0.25).mean(dim=(2, 3))")],
    ),
    "wrong mean and std": (
        "transform is upstreams",
        (
            "mean=(0.48, 0.46, 0.41) and std=(0.27, 0.26, 0.28), but upstream_transform normalises"
            " with mean=(0.5, 0.5, 0.5) and std=(0.25, 0.25, 0.25)"
        ),
        [
            (
                SPECS,
                (
                    "self.image_spec = ImageSpec(size=64, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26,"
                    " 0.28))"
                ),
            )
        ],
    ),
    "wrong mean by two levels": (
        "transform is upstreams",
        "has mean=(0.492, 0.5, 0.5)",
        [
            (
                SPECS,
                (
                    "self.image_spec = ImageSpec(size=64, mean=(0.492, 0.5, 0.5), std=(0.25, 0.25,"
                    " 0.25))"
                ),
            )
        ],
    ),
    "squashed instead of cropped": (
        "transform is upstreams",
        "mode='shortest' would agree",
        [
            (
                SPECS,
                (
                    "self.image_spec = ImageSpec(size=64, mode='squash', mean=(0.5, 0.5, 0.5),"
                    " std=(0.25, 0.25, 0.25))"
                ),
            )
        ],
    ),
    "another interpolation": (
        "transform is upstreams",
        "interpolation='bicubic' would agree",
        [
            (
                SPECS,
                (
                    "self.image_spec = ImageSpec(size=64, interpolation='nearest', mean=(0.5, 0.5,"
                    " 0.5), std=(0.25, 0.25, 0.25))"
                ),
            )
        ],
    ),
    "tokenizer mismatch": (
        "tokenizer is upstreams",
        "instead of",
        [
            (
                TOKENS,
                TOKENS
                + """.replace('"a":', '"@":', 1).replace('"b":', '"a":', 1).replace('"@":', '"b":', 1)""",
            )
        ],
    ),
    "another pad": ("tokenizer is upstreams", "pad_id=0 would agree", [("pad_id=0", "pad_id=5")]),
    "another cleaning": (
        "tokenizer is upstreams",
        "cleaning='none' would agree",
        [('padding="longest", t', 'padding="longest", cleaning="clip", t')],
    ),
    "another context": (
        "tokenizer is upstreams",
        "context_length is 90; set it to what upstream gives",
        [("context_length=96", "context_length=90")],
    ),
    "save loses weights": (
        "save and load",
        "1 of 5 tensors (text.weight) come back as they were before training",
        [
            (
                SAVE,
                (
                    "save_file({k: v for k, v in self.state_dict().items() if k != 'text.weight'},"
                    " Path(directory) / WEIGHTS)"
                ),
            ),
            (LOAD, LOAD[:-1] + ", strict=False)"),
        ],
    ),
    "save writes nothing": (
        "save and load",
        "save_pretrained wrote nothing to the directory that it was given",
        [(SAVE, "pass")],
    ),
    "a setting is not saved": (
        "save and load",
        "text_spec.context_length differs after save_pretrained and load",
        [
            (
                "context_length=96,",
                "context_length=96 if model_id == 'tiny' else 50,",
            )
        ],
    ),
    "padding matters": (
        "padding",
        (
            'text_spec.padding is "longest", but a text padded to 96 has another embedding than at'
            " its own length"
        ),
        [(WORDS, "return self.text(input_ids).mean(1)")],
    ),
    "no gradient": (
        "gradients",
        "encode_text cuts the gradient",
        [
            (
                WORDS,
                "return (words.sum(1) / attention_mask.sum(1, keepdim=True).clamp(min=1)).detach()",
            )
        ],
    ),
    "statistics move in eval": (
        "freezing",
        "seen changes while the backbone only embeds",
        [
            ("self.eval()", 'self.register_buffer("seen", torch.zeros(1))\n        self.eval()'),
            (POOL, "self.seen += 1\n        " + POOL),
        ],
    ),
    "blocks of another": (
        "freezing",
        "blocks names a module that is no part of the backbone",
        [("self.eval()", "self.blocks = lambda: [nn.Linear(1, 1)]\n        self.eval()")],
    ),
    "nan for an empty text": (
        "texts",
        "encode_text gives nan for a text that is empty",
        [(".clamp(min=1)", "")],
    ),
    "an id that the vocabulary lacks": (
        "widths",
        "an id that its vocabulary lacks (is tokenizer_json that of the weights",
        [("nn.Embedding(257,", "nn.Embedding(200,")],
    ),
    "one embedding for all": (
        "widths",
        "encode_image gives the same embedding for every input",
        [(POOL, "return 0 * self.image(pixel_values).mean(dim=(2, 3)) + 1.0")],
    ),
    "half precision": (
        "widths",
        "encode_image gives torch.float16; load fp32 weights",
        [(POOL, POOL + ".half()")],
    ),
    "in training mode": (
        "declarations",
        "call self.eval() at the end of __init__",
        [("        self.eval()\n", "")],
    ),
    "a forgotten attribute": (
        "declarations",
        "backbone.shared_space is None; set it to a bool",
        [("self.shared_space = False", "pass")],
    ),
    "one space for unlike widths": (
        "declarations",
        "unlike widths share no space",
        [("self.shared_space = False", "self.shared_space = True")],
    ),
    "a cached backbone": (
        "save and load",
        "load gives the same object again",
        [
            (
                "backbone = cls(model_id)",
                "backbone = cls.only = getattr(cls, 'only', None) or cls(model_id)",
            )
        ],
    ),
    "saved elsewhere": (
        "save and load",
        "save_pretrained wrote nothing to the directory",
        [(SAVE, "save_file(self.state_dict(), Path(directory).parent / WEIGHTS)")],
    ),
    "a name of mismatch's": (
        "save and load",
        "writes mismatch.json, which mismatch writes",
        [(SAVE, SAVE + "; (Path(directory) / 'mismatch.json').write_text('{}')")],
    ),
    "a scale that is not saved": (
        "save and load",
        "logit_scale differs after",
        [
            (
                "self.eval()",
                "self.logit_scale = 100.0 if model_id == 'tiny' else None\n        self.eval()",
            )
        ],
    ),
    "weights from before": (
        "save and load",
        (
            "5 of 5 tensors (image.0.weight, image.0.bias, image.2.weight) come back as they were"
            " before training"
        ),
        [(LOAD, "pass")],
    ),
    "weights in bf16": (
        "declarations",
        "image.0.weight is of torch.bfloat16; load fp32 weights",
        [("self.eval()", "self.image.bfloat16()\n        self.eval()")],
    ),
    "no batch axis for one": (
        "widths",
        "does a squeeze() drop the batch axis?",
        [(POOL, POOL + ".squeeze()")],
    ),
    "not pooled": (
        "widths",
        "pool or flatten to one vector each: (7, 48)",
        [(POOL, POOL + ".reshape(-1, 48, 1, 1)")],
    ),
    "something detached": (
        "gradients",
        "no gradient of encode_image reaches the pixels",
        [
            ("self.eval()", "self.gain = nn.Parameter(torch.ones(1))\n        self.eval()"),
            (POOL, POOL + ".detach() * self.gain"),
        ],
    ),
    "a tokenizer's path": (
        "specs round trip",
        "give the text of a tokenizers file: tokenizer.to_str()",
        [(TOKENS, "tokenizer_json='tokenizer.json'")],
    ),
    "a wrong answer of upstream": (
        "tokenizer is upstreams",
        "upstream_tokenizer returns a dict; return a tensor",
        [("return torch.tensor([row +", "return dict.fromkeys([0]) or torch.tensor([row +")],
    ),
    "layers computed again without their gradient": (
        "checkpointing",
        "encode_image gets other gradients after checkpoint_gradients",
        [
            (
                "    def encode_image",
                (
                    "    thrifty = False\n\n    def checkpoint_gradients(self):\n       "
                    " self.thrifty = True\n\n    def encode_image"
                ),
            ),
            (POOL, POOL + " + (self.image[0].bias.sum() if self.thrifty else 0)"),
        ],
    ),
    "a constant on the CPU": (
        "other devices",
        "encode_image mixes tensors of the CPU with those of the backbone's device in mul",
        [(POOL, POOL + " * torch.ones(48)")],
    ),
    "a table on the CPU": (
        "other devices",
        "encode_text mixes tensors of the CPU with those of the backbone's device in embedding",
        [("self.text(input_ids)", "(self.text(input_ids) + self.text(torch.arange(3))[:1])")],
    ),
    "a result on the CPU": (
        "other devices",
        "encode_image gives a tensor on the cpu for a backbone on another device",
        [(POOL, ON_META + POOL)],
    ),
    "a sum in fp32": (
        "bf16 autocast",
        "encode_image fails under autocast in bfloat16 with RuntimeError: Index put requires",
        [(POOL, INTO_FP32)],
    ),
    "a root of nothing": (
        "gradients are finite",
        "encode_image gives nan or infinite gradients for a blank image",
        [(POOL, SPREAD)],
    ),
    "a mean of no words": (
        "gradients are finite",
        "encode_text gives nan or infinite gradients for an empty text",
        [(WORDS, NO_WORDS)],
    ),
    "half of the text": (
        "whole text is read",
        "token 96 of a text of 96 changes nothing: encode_text reads fewer than the 96 tokens",
        [
            (
                "words: torch.Tensor = self.text(input_ids) * attention_mask.unsqueeze(-1)",
                "words = (self.text(input_ids) * attention_mask.unsqueeze(-1))[:, :64]",
            )
        ],
    ),
    "a call's own on the backbone": (
        "threads",
        "something of a call is kept on the backbone; keep it in local variables",
        [
            (
                POOL,
                (
                    "self.kept = self.image(pixel_values)\n        import time; time.sleep(0.001)\n"
                    "        return self.kept.mean(dim=(2, 3))"
                ),
            )
        ],
    ),
    "64 rows at most": (
        "large batches",
        "encode_image gives (64, 48) for 67 inputs",
        [(POOL, POOL.replace("pixel_values", "pixel_values[:64]"))],
    ),
    "rows in another order": (
        "large batches",
        "encode_image gives rows of a batch of 67 other embeddings than in one of 7",
        [(POOL, POOL + ".roll(len(pixel_values) // 64, 0)")],
    ),
    "weights halved on disk and live": (
        "saving keeps the weights",
        "save_pretrained changes 5 of 5 tensors of the backbone",
        [(SAVE, "self.half(); " + SAVE + "; self.float()")],
    ),
    "another name after loading": (
        "save and load",
        "gives a backbone whose model_id is 'bag'",
        [("self.model_id = model_id", "self.model_id = 'tiny' if model_id == 'tiny' else 'bag'")],
    ),
    "a mode that stays": (
        "modes",
        "train() leaves the backbone in eval mode",
        [
            (
                "    def encode_image",
                (
                    "    def train(self, mode=True): return super().train(False)\n\n"
                    "    def encode_image"
                ),
            )
        ],
    ),
    "a part left in training": (
        "modes",
        "eval() leaves text in training mode",
        [
            (
                "    def encode_image",
                (
                    "    def train(self, mode=True):\n        super().train(mode)\n"
                    "        self.text.train()\n        return self\n\n    def encode_image"
                ),
            )
        ],
    ),
    "levels without a gradient": (
        "gradients",
        "image_levels cuts the gradient",
        [
            ("self.eval()", "self.levels_dim = 48\n        self.eval()"),
            (
                "    def encode_image",
                (
                    "    def image_levels(self, pixel_values):\n        with torch.no_grad():\n"
                    "            return self.image(pixel_values).mean(dim=(2, 3))\n\n"
                    "    def encode_image"
                ),
            ),
        ],
    ),
    "a print in a tower": (
        "nothing is printed",
        "encode_text prints 'texts!', and a command's output would hold it",
        [(WORDS, "print('texts!')\n        " + WORDS)],
    ),
    "a print at load": (
        "save and load",
        "load prints 'loading', and a command's output would hold it",
        [("backbone = cls(model_id)", "backbone = cls(model_id); print('loading')")],
    ),
    "gradients switched off": (
        "save and load",
        "load leaves gradients switched off for the whole process",
        [
            (
                "        return backbone\n",
                "        torch.set_grad_enabled(model_id == 'tiny')\n        return backbone\n",
            )
        ],
    ),
    "an exit at load": (
        "save and load",
        "load(DIRECTORY) can't read what save_pretrained wrote (model.safetensors): SystemExit",
        [
            (
                "        return backbone\n",
                "        model_id == 'tiny' or exit(3)\n        return backbone\n",
            )
        ],
    ),
    "one id for all letters": (
        "words are told apart",
        "the same ids, as any words of as many letters",
        [("return tokenizer.to_str()", ONE_ID)],
    ),
    "pixels changed in place": (
        "inputs are kept",
        "encode_image changes its input in place, which others read after it",
        [(POOL, "pixel_values.sub_(0.1); " + POOL)],
    ),
    "a lock on the backbone": (
        "other devices",
        "copy.deepcopy(backbone) fails with TypeError",
        [("self.eval()", "self.lock = __import__('threading').Lock()\n        self.eval()")],
    ),
    "levels of another width": (
        "levels",
        "image_levels gives (7, 0)",
        [("self.eval()", "self.levels_dim = 9\n        self.eval()")],
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_backbone_is_caught_and_its_fault_named(fault: str) -> None:
    check, words, changes = BROKEN[fault]
    found = failures(source(*changes))
    assert words in found.get(check, ""), found
    assert all("\n" not in message for message in found.values())


def test_a_fault_that_others_would_only_repeat_is_said_once() -> None:
    kind = backbone_class(source((POOL, "return [self.image(pixel_values).mean(dim=(2, 3))]")))
    checks = {check.name: check for check in run_checks(kind.load("tiny"), load=kind.load)}
    assert [name for name, check in checks.items() if check.outcome == "failed"] == ["widths"]
    assert (
        checks["padding"].message
        == checks["onnx export"].message
        == "widths failed; mend that first"
    )
    assert checks["transform is upstreams"].outcome == "passed"
    assert "in encode_image" not in checks["widths"].message
    assert "test_widths" in checks["widths"].trace


def test_one_that_keeps_it_passes() -> None:
    kind = backbone_class(source())
    checks = run_checks(kind.load("tiny"), load=kind.load)
    assert {check.name: check.outcome for check in checks if check.outcome == "failed"} == {}
    assert {check.name for check in checks if check.outcome == "skipped"} == {
        "levels",
        "checkpointing",
        "int8",
        "save and load in a new process",
        "hook is light",
        "entry point",
    }
    assert [check.name for check in checks] == check_names()
    assert all(check.message for check in checks if check.outcome == "skipped")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            (POOL, POOL + " * (1 // (0 if torch.compiler.is_exporting() else 1))"),
            "encode_image can't be exported to ONNX: ZeroDivisionError",
        ),
        (
            (POOL, POOL + " * (2 if torch.compiler.is_exporting() else 1)"),
            "encode_image exported to ONNX differs from torch for a batch of 1",
        ),
        (
            (POOL, POOL + ".reshape(2 if torch.compiler.is_exporting() else -1, 48)"),
            "encode_image exported to ONNX fails for a batch of 1",
        ),
    ],
    ids=["not traced", "another value", "a fixed batch"],
)
def test_a_graph_that_is_not_the_backbone_is_caught(change: tuple[str, str], words: str) -> None:
    assert words in failures(source(change), {"onnx export"}).get("onnx export", "")


CLAIM = "self.int8, self.wide = True, nn.Linear(64, 64)\n        self.eval()"
# leaves one level of 8 bits for all other weights of a row
OUTLIER = CLAIM + "\n        self.wide.weight.data[:, 0] = 1e4"
IMAGES = POOL.removeprefix("return ")
# a layer of two tokens, as wide as is worth quantising
TOKENS = f"self.wide(torch.cat([{IMAGES}] * 2, 1)[:, None, :64].repeat(1, 2, 1))[:, 0, :48]"


@pytest.mark.parametrize(
    ("init", "pool", "message"),
    [
        (CLAIM, f"return {TOKENS}", ""),
        (OUTLIER, f"return {TOKENS} - 1e4 * {IMAGES}[:, :1]", "below 0.99; set int8 = False"),
    ],
    ids=["kept", "broken"],
)
def test_a_claim_of_int8_is_measured(init: str, pool: str, message: str) -> None:
    found = failures(source(("self.eval()", init), (POOL, pool)), {"int8"})
    assert bool(found) == bool(message)
    assert message in found.get("int8", "")


def test_weights_and_flags_are_as_before() -> None:
    import torch

    backbone: Backbone = backbone_class(source()).load("tiny")
    backbone.get_submodule("text").requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    run_checks(backbone, load=type(backbone).load, only=set(check_names()) - SLOW)  # type: ignore[attr-defined]
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert [
        name for name, parameter in backbone.named_parameters() if not parameter.requires_grad
    ] == ["text.weight"]
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_checks_come_one_by_one() -> None:
    checks = iter_checks(backbone_class(source()).load("tiny"))
    assert [next(checks).name, next(checks).name] == check_names()[:2]


def test_an_unknown_check_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="there is no check 'paddings'; did you mean 'padding'"):
        check_selection(["paddings"])
    with pytest.raises(InputError, match="there is no check 'paddings'"):
        run_checks(backbone_class(source()).load("tiny"), only="paddings")


def test_every_check_says_what_it_wants() -> None:
    methods = [
        getattr(BackboneContract, f"test_{'_'.join(name.split())}") for name in check_names()
    ]
    assert len(methods) == sum(name.startswith("test_") for name in dir(BackboneContract)) > 15
    assert check_names()[:3] == ["declarations", "specs round trip", "widths"]
    assert check_names()[-1] == "entry point"
    assert all(method.__doc__ for method in methods)


# --- as a plugin that is installed

Install = Callable[..., dict[str, str]]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Lay the template's plugin out as an installed distribution; returns the environment in which
    it is found.
    """

    def lay_out(**changed: str) -> dict[str, str]:
        for name, text in plugin_files("bag").items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(changed.get(path.stem.strip("_"), text))
        info = tmp_path / "mismatch_bag-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: mismatch-bag\nVersion: 0.1.0\n"
        )
        (info / "entry_points.txt").write_text("[mismatch]\nbag = mismatch_bag\n")
        (info / "RECORD").write_text("mismatch_bag/__init__.py,,\nmismatch_bag/backbone.py,,\n")
        return os.environ | {"PYTHONPATH": str(tmp_path)}

    return lay_out


def mismatch(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return finished(command_line(*words), env=environment)


def test_an_installed_plugin_passes_every_check_but_those_of_what_it_does_not_offer(
    install: Install,
) -> None:
    done = mismatch(install(backbone=source()), "backbones", "check", "bag", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert {check["name"] for check in report["checks"] if check["outcome"] != "passed"} == {
        "levels",
        "checkpointing",
        "int8",
    }
    assert [check["name"] for check in report["checks"]] == check_names()


def test_torch_at_import_is_caught(install: Install) -> None:
    init = plugin_files("bag")["mismatch_bag/__init__.py"]
    init = init.replace("import mismatch\n", "import torch\n\nimport mismatch\n", 1)
    done = mismatch(
        install(init=init),
        "backbones",
        "check",
        "bag",
        "--only",
        "hook is light",
        "--only",
        "widths",
    )
    assert done.returncode == 1
    assert "ok    widths\n" in done.stdout
    assert (
        "FAIL  hook is light: importing mismatch_bag imports torch; import them inside load(),"
        " where they are needed\n" in done.stdout
    )
    assert done.stdout.endswith("1 passed, 1 failed\n")


HOOK = plugin_files("bag")["mismatch_bag/__init__.py"].replace(
    '    register("bag"', '    raise RuntimeError("no towers here")\n    register("bag"'
)


def test_an_exception_in_the_hook_is_caught_and_takes_nobody_down(install: Install) -> None:
    environment = install(init=HOOK)
    done = mismatch(environment, "backbones", "check", "bag")
    assert done.returncode == 1
    assert (
        "FAIL  hook: plugin 'bag' (mismatch_bag of mismatch-bag 0.1.0) is broken and left out:"
        " RuntimeError: no towers here\n" in done.stdout
    )
    shown = mismatch(environment, "--debug", "backbones", "show", "mismatch-bag")
    assert shown.returncode == 1
    assert 'raise RuntimeError("no towers here")' in shown.stdout
    assert "openclip" in mismatch(environment, "backbones", "list").stdout


def test_a_backbone_that_does_not_load_is_a_failed_check(install: Install) -> None:
    environment = install(backbone=source(("super().__init__()", "raise ValueError('no weights')")))
    done = mismatch(environment, "backbones", "check", "bag", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["checks"] == [
        {
            "name": "load",
            "outcome": "failed",
            "message": "backbone bag:tiny could not be loaded: ValueError: no weights",
            "seconds": 0.0,
            "trace": ANY,
        }
    ]
    assert (
        "raise ValueError('no weights')"
        in mismatch(environment, "--debug", "backbones", "check", "bag").stdout
    )


def test_what_is_kept_in_memory_only_is_caught_in_a_new_process(install: Install) -> None:
    changes = (
        (
            SAVE,
            (
                "(Path(directory) / WEIGHTS).touch(); MEMORY[str(directory)] = {k: v.clone() for k,"
                " v in self.state_dict().items()}"
            ),
        ),
        (LOAD, "backbone.load_state_dict(MEMORY.get(model_id, {}), strict=False)"),
    )
    text = source(*changes).replace("WEIGHTS =", "MEMORY = {}\nWEIGHTS =", 1)
    done = mismatch(
        install(backbone=text),
        "backbones",
        "check",
        "bag",
        "--only",
        "save and load",
        "--only",
        "save and load in a new process",
    )
    assert "ok    save and load\n" in done.stdout
    assert "FAIL  save and load in a new process: embeddings differ in a new process" in done.stdout


def test_a_module_that_the_wheel_lacks_is_caught(install: Install, tmp_path: Path) -> None:
    environment = install()
    (tmp_path / "mismatch_bag-0.1.0.dist-info" / "RECORD").write_text(
        "mismatch_other/__init__.py,,\n"
    )
    done = mismatch(environment, "backbones", "check", "bag", "--only", "entry point")
    assert (
        "FAIL  entry point: the installed mismatch-bag holds no file of the module mismatch_bag"
        in done.stdout
    )


def test_under_pytest_it_is_a_class_to_inherit_and_skips_are_skips(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(source())
    (tmp_path / "test_bag.py").write_text(
        "import sys; sys.path.insert(0, '.')\nimport pytest, plugin\nfrom"
        " mismatch.testing.contract import BackboneContract\n@pytest.fixture(scope='module')\ndef"
        " backbone():\n    return plugin.BagBackbone.load('tiny')\n\nclass"
        " TestBag(BackboneContract):\n    load = staticmethod(plugin.BagBackbone.load)\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        "-k",
        "not onnx",
        "test_bag.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (
        done.stdout.strip()
        .splitlines()[-1]
        .startswith(f"{len(check_names()) - 7} passed, 6 skipped")
    ), done.stdout


def test_a_check_is_plain_data() -> None:
    assert vars(Check("widths", "passed", "", 0.1)) == {
        "name": "widths",
        "outcome": "passed",
        "message": "",
        "seconds": 0.1,
        "trace": "",
    }


def test_the_former_home_still_leads_there() -> None:
    from mismatch.backbones import contract as former

    with pytest.warns(DeprecationWarning, match=r"mismatch\.testing\.contract"):
        assert former.BackboneContract is BackboneContract
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = former.nothing
