"""A folder of a model names nothing outside of it, and its code is not asked about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mismatch.backbones.model_folders import check_self_contained, no_code_of_models
from mismatch.errors import BackboneError

TIMM = {"model_type": "timm_wrapper", "architecture": "resnet18.a1_in1k"}
INDEX = "model.safetensors.index.json"


def folder_of(tmp_path: Path, name: str, content: Any) -> Path:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"model_type": "clip", "architectures": ["CLIPModel"]}),
        ("config.json", {"_name_or_path": "openai/clip-vit-base-patch32"}),
        ("config.json", {"vision_config": TIMM | {"model_args": {"depth": 3, "act": "gelu"}}}),
        ("config.json", {"backbone_config": {"use_pretrained_backbone": False}}),
        ("config.json", ["no object"]),
        (INDEX, {"weight_map": {"a": "model-00001-of-00002.safetensors"}}),
        (INDEX, {"weight_map": ["no object"]}),
        ("config.json", {"_attn_implementation": "sdpa", "transformers_weights": "a.safetensors"}),
        ("config.json", {"attn_implementation": {"text_config": "eager", "": "sdpa"}}),
        # as CLIP's own says, of a file that is not read
        (
            "tokenizer_config.json",
            {"special_tokens_map_file": "/home/a/.cache/b", "name_or_path": "openai/clip"},
        ),
        ("preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor"}),
    ],
)
def test_what_lies_within_is_taken(tmp_path: Path, name: str, content: Any) -> None:
    check_self_contained(folder_of(tmp_path, name, content), "toy")


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        (INDEX, {"weight_map": {"a": "../other/model.safetensors"}}, "../other/model.safetensors"),
        (INDEX, {"weight_map": {"a": "/etc/model.safetensors"}}, "/etc/model.safetensors"),
        (INDEX, {"weight_map": {"a": "..\\model.safetensors"}}, "model.safetensors"),
        (INDEX, {"weight_map": {"a": ".."}}, "'..'"),
        ("pytorch_model.bin.index.json", {"weight_map": {"a": "b/c.bin"}}, "b/c.bin"),
        ("config.json", {"vision_config": TIMM | {"architecture": "hf-hub:a/b"}}, "hf-hub:a/b"),
        ("config.json", {"vision_config": TIMM | {"architecture": "local-dir:c"}}, "local-dir:c"),
        (
            "config.json",
            {"vision_config": TIMM | {"model_args": {"checkpoint_path": "weights"}}},
            "weights",
        ),
        ("config.json", {"a": [{"model_args": {"pretrained_cfg": {"file": "x"}}}]}, "file"),
        ("config.json", {"vision_config": {"backbone": "microsoft/resnet-50"}}, "resnet-50"),
        ("config.json", {"a": {"backbone_kwargs": {"weights": "https://x"}}}, "https://x"),
        ("config.json", {"a": {"use_pretrained_backbone": True}}, "use_pretrained_backbone"),
        ("config.json", {"text_config": {"attn_implementation": "a/kernel"}}, "a/kernel"),
        ("open_clip_config.json", {"model_cfg": {"backbone": "c:\\model"}}, "model"),
        ("config.json", {"configuration_files": ["config.5.0.0.json"]}, "config.5.0.0.json"),
        ("config.json", {"a": {"attn_implementation": {"text_config": "a/kernel"}}}, "a/kernel"),
        ("config.json", {"attn_implementation": "flash_attention_2"}, "flash_attention_2"),
        ("config.json", {"_attn_implementation_internal": "a/kernel"}, "a/kernel"),
        ("config.json", {"experts_implementation": "a/kernel"}, "a/kernel"),
        ("config.json", {"transformers_weights": "../other.safetensors"}, "../other.safetensors"),
        ("config.json", {"transformers_weights": "s/a.index.json"}, "s/a.index.json"),
        ("config.json", {"transformers_weights": "a.json"}, "a.json"),
        ("sub/a.safetensors.index.json", {"weight_map": {"a": "../b"}}, "../b"),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["/a/tokenizer.4.0.0.json"]}, "/a/"),
        ("preprocessor_config.json", {"repo_path": "a/b", "class_info_file": "c.json"}, "a/b"),
        ("preprocessor_config.json", {"class_info_file": "/etc/c.json"}, "/etc/c.json"),
        ("processor_config.json", {"image_processor": {"repo_path": "a/b"}}, "a/b"),
        ("adapter_config.json", {"base_model_name_or_path": "a/b"}, "adapter"),
    ],
)
def test_what_lies_elsewhere_is_refused(
    tmp_path: Path, name: str, content: Any, named: str
) -> None:
    with pytest.raises(BackboneError, match=r"^toy: ") as caught:
        check_self_contained(folder_of(tmp_path, name, content), "toy")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_json_is_one_line(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(BackboneError, match=INDEX):
        check_self_contained(tmp_path, "toy")


def test_transformers_asks_again_after_the_last_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import dynamic_module_utils

    monkeypatch.setattr("builtins.input", pytest.fail)
    before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    with no_code_of_models():
        with no_code_of_models():
            pass
        with pytest.raises(ValueError, match="custom code"):
            dynamic_module_utils.resolve_trust_remote_code(
                None, "model", has_local_code=False, has_remote_code=True
            )
    assert before == dynamic_module_utils.TIME_OUT_REMOTE_CODE
