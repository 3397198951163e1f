"""Repositories as they lie on the hub: the same files and keys of configurations as the real ones,
small towers and random weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = [
    "CLIP",
    "LAION",
    "SIGLIP2",
    "SMALL_VIT_B_32",
    "VIT_B_32",
    "bert_tokenizer_files",
    "clip_files",
    "laion_files",
    "sharded",
    "siglip2_files",
    "small_architectures",
]

CLIP = "openai/clip-vit-base-patch32"
LAION = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
SIGLIP2 = "google/siglip2-base-patch16-224"
VIT_B_32 = "ViT-B-32/laion2b_s34b_b79k"  # open_clip's name of LAION

# open_clip's ViT-B-32 with towers of one layer; a process that adds it loads it by that name
SMALL_VIT_B_32: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 1, "width": 32, "head_width": 16, "patch_size": 32},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 1,
    },
}


def small_architectures(folder: Path) -> Path:
    """Write configurations for `open_clip.add_model_config`; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ViT-B-32.json").write_text(json.dumps(SMALL_VIT_B_32))
    return folder


def _folder_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _pickled(state: dict[str, Any], path: Path) -> bytes:
    import torch

    torch.save(state, path)
    content = path.read_bytes()
    path.unlink()
    return content


def clip_files(folder: Path, *, safetensors: bool = False) -> dict[str, bytes]:
    """Return the files of openai/clip-vit-base-patch32 as they have lain there since 2022: a pickle
    of weights, `text_config_dict`, an integer `size` and a `feature_extractor_type`.
    """
    import torch
    import transformers

    from mismatch_hf_clip.backbone import _clip_tokenizer

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text = shape | {"num_hidden_layers": 1, "model_type": "clip_text_model", "eos_token_id": 2}
    vision = shape | {"num_hidden_layers": 1, "image_size": 64, "patch_size": 32}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
    torch.manual_seed(0)
    model = transformers.CLIPModel(config)
    _clip_tokenizer().save_pretrained(folder)
    files = _folder_files(folder)
    vocabulary = json.loads(files["tokenizer.json"])["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in vocabulary["merges"]]
    files["vocab.json"] = json.dumps(vocabulary["vocab"]).encode()
    files["merges.txt"] = ("#version: 0.2\n" + "\n".join(merges) + "\n").encode()
    files["tokenizer_config.json"] = json.dumps(
        {
            "unk_token": "<|endoftext|>",
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "add_prefix_space": False,
            "errors": "replace",
            "do_lower_case": True,
            "name_or_path": "openai/clip-vit-base-patch32",
            "model_max_length": 77,
            "special_tokens_map_file": "./special_tokens_map.json",
            "tokenizer_class": "CLIPTokenizer",
        }
    ).encode()
    files["special_tokens_map.json"] = json.dumps(
        dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>")
        | {"bos_token": "<|startoftext|>"}
    ).encode()
    old_text = text | {"bos_token_id": 0, "pad_token_id": 1, "torchscript": False}
    files["config.json"] = json.dumps(
        {
            "_name_or_path": "openai/clip-vit-base-patch32",
            "architectures": ["CLIPModel"],
            "initializer_factor": 1.0,
            "logit_scale_init_value": 2.6592,
            "model_type": "clip",
            "projection_dim": 32,
            "text_config": old_text,
            "text_config_dict": old_text,
            "torch_dtype": "float32",
            "transformers_version": None,
            "vision_config": vision | {"model_type": "clip_vision_model"},
            "vision_config_dict": vision,
        }
    ).encode()
    files["preprocessor_config.json"] = json.dumps(
        {
            "crop_size": 64,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "resample": 3,
            "size": 64,
        }
    ).encode()
    files["README.md"] = b"---\ntags:\n- vision\n---\n# Model Card: CLIP\n"
    files[".gitattributes"] = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"
    files["flax_model.msgpack"] = b"\0" * 2000  # never asked for
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    # as old weights have them, which newer models leave out
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    state["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    if safetensors:
        from safetensors.torch import save

        files["model.safetensors"] = save(state, {"format": "pt"})
    else:
        files["pytorch_model.bin"] = _pickled(state, folder / "weights")
    return files


def sharded(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return a repository's files with its model.safetensors in two parts and an index."""
    from safetensors.torch import load, save

    state = load(files["model.safetensors"])
    names = sorted(state)
    halves = [names[: len(names) // 2], names[len(names) // 2 :]]
    parts = {f"model-0000{i}-of-00002.safetensors": half for i, half in enumerate(halves, 1)}
    index = {
        "metadata": {"total_size": len(files["model.safetensors"])},
        "weight_map": {name: part for part, half in parts.items() for name in half},
    }
    others = {name: content for name, content in files.items() if name != "model.safetensors"}
    shards = {
        part: save({name: state[name] for name in half}, {"format": "pt"})
        for part, half in parts.items()
    }
    return others | shards | {"model.safetensors.index.json": json.dumps(index).encode()}


def siglip2_files(folder: Path) -> dict[str, bytes]:
    """Return the files of google/siglip2-base-patch16-224: safetensors, and Gemma's tokenizer, of
    few pieces.
    """
    import torch
    import transformers
    from safetensors.torch import save
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    pieces = [
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        "<mask>",
        *(f"<0x{i:02X}>" for i in range(256)),
        "▁",
    ]
    pieces += [chr(i) for i in range(ord("a"), ord("z") + 1)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.ByteFallback()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    fast.save_pretrained(folder)
    about = json.loads((folder / "tokenizer_config.json").read_text())
    about |= {"tokenizer_class": "GemmaTokenizer", "add_eos_token": True, "add_bos_token": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(about | {"padding_side": "right"}))
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
    }
    config = transformers.SiglipConfig(
        text_config=shape
        | {"vocab_size": len(pieces), "max_position_embeddings": 64}
        | {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0},
        vision_config=shape | {"image_size": 64, "patch_size": 16},
    )
    torch.manual_seed(0)
    model = transformers.SiglipModel(config)
    files = _folder_files(folder)
    files["config.json"] = json.dumps(
        {
            "architectures": ["SiglipModel"],
            "initializer_factor": 1.0,
            "model_type": "siglip",
            "text_config": config.text_config.to_diff_dict()
            | {"model_type": "siglip_text_model", "vocab_size": len(pieces)},
            "torch_dtype": "float32",
            "transformers_version": "4.49.0.dev0",
            "vision_config": config.vision_config.to_diff_dict()
            | {"model_type": "siglip_vision_model"},
        }
    ).encode()
    files["preprocessor_config.json"] = json.dumps(
        {
            "do_convert_rgb": None,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "SiglipImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "processor_class": "SiglipProcessor",
            "resample": 2,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": 64, "width": 64},
        }
    ).encode()
    files["model.safetensors"] = save(dict(model.state_dict()), {"format": "pt"})
    return files


def bert_tokenizer_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a tokenizer of 46 word pieces, as bert-base-uncased has it."""
    import transformers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(i) for i in range(ord("a"), ord("z") + 1)]
    words = [*special, *letters, *(f"##{letter}" for letter in letters[:15])]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return _folder_files(folder)


def laion_files(folder: Path, *, pickled: bool = False) -> dict[str, bytes]:
    """Return the files of laion/CLIP-ViT-B-32-laion2B-s34B-b79K: open_clip's configuration and
    weights, and next to them what transformers reads.
    """
    import open_clip
    import torch
    from safetensors.torch import save

    torch.manual_seed(0)
    model = open_clip.CLIP(**json.loads(json.dumps(SMALL_VIT_B_32)))
    preprocessing = {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    }
    files = {
        "open_clip_config.json": json.dumps(
            {"model_cfg": SMALL_VIT_B_32, "preprocess_cfg": preprocessing}
        ).encode(),
        "config.json": json.dumps({"model_type": "clip", "architectures": ["CLIPModel"]}).encode(),
        "README.md": b"---\nlicense: mit\n---\n# Model Card for CLIP-ViT-B-32-laion2B-s34B-b79K\n",
        "pytorch_model.bin": b"of transformers; never asked for",
    }
    state = dict(model.state_dict())
    folder.mkdir(parents=True, exist_ok=True)
    if pickled:
        files["open_clip_pytorch_model.bin"] = _pickled(state, folder / "weights")
    else:
        files["open_clip_model.safetensors"] = save(state, {"format": "pt"})
    return files
