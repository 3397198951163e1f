"""What a run needs before its first step: checked rows, a detector to start from, and feeds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mismatch.backbones.base import Backbone
from mismatch.backbones.features import features_offered
from mismatch.backbones.hub import pinned
from mismatch.backbones.registry import families, load_backbone, parse_reference
from mismatch.data.columns import file_finder
from mismatch.data.pairs import reading_remark
from mismatch.errors import BackboneError, InputError, named
from mismatch.io.text import plural
from mismatch.progress import progress
from mismatch.runtime.cache import EmbeddingCache
from mismatch.runtime.embedding import embed_images, embed_texts
from mismatch.runtime.languages import unread_warning
from mismatch.runtime.long_text import long_texts_line
from mismatch.runtime.pipeline import Pipeline
from mismatch.runtime.tokenize import Tokenizer, shown
from mismatch.specs import HeadSpec, LongText
from mismatch.training.callbacks import announce, warn
from mismatch.training.checkpoint import is_checkpoint, load_detector, meta_for, read_meta
from mismatch.training.config import TrainConfig
from mismatch.training.detector import Detector
from mismatch.training.distributed.processes import Processes
from mismatch.training.distributed.shared_rows import cut_together, read_together
from mismatch.training.engine import TorchEngine
from mismatch.training.feeds.batches import PairSet, hold_out
from mismatch.training.feeds.feeds import EmbeddingFeed, Feed, PixelFeed, PixelStore
from mismatch.training.head import CosineHead, build_head, head_options, head_spec_for
from mismatch.training.legacy import check_not_above, head_line, is_legacy

__all__ = ["Start", "cut_long_texts", "load_sets", "load_start", "make_feeds", "trainable_head"]

Item = TypeVar("Item")
# (n, D), and why some rows of it are nan
Embedded = tuple[NDArray[np.float32], dict[int, InputError]]
ALONE = Processes(torch.device("cpu"))
SHOWN = 10  # problems in one message
LOOKED_AT = 5000  # texts of a set, which tell its languages


@dataclass(frozen=True)
class Start:
    """The detector that training starts from, and what a checkpoint records of where
    it came from.
    """

    detector: Detector
    family: str
    model_id: str
    checkpoint: Path | None  # that training goes on from
    long_text: LongText = "truncate"  # what becomes of texts over the context


def load_start(config: TrainConfig) -> Start:
    """Load a backbone with a fresh head, or a checkpoint's backbone and head."""
    if is_legacy(config.output_dir):
        raise InputError(
            f"`output_dir` {config.output_dir} is a model of an older pipeline, whose"
            " training_stats.json would be lost; choose another"
        )
    folders = [config.model_name]
    if str(config.backbone) not in families():
        folders.append(config.backbone)
    for name in folders:
        if name and is_checkpoint(name):
            return _from_checkpoint(Path(name), config)
        if name and any(Path(name).glob("*/mismatch.json")):
            read_meta(Path(name))  # raises and names the checkpoints in it
    family, model_id = parse_reference(str(config.backbone), config.model_name)
    check_not_above(model_id)
    if line := head_line(model_id):
        warn("older_head", f"{line}; the backbone is loaded and a new head is trained")
    backbone = load_backbone(str(config.backbone), config.model_name)
    if name := pinned(model_id, backbone.commit):
        warn(
            "unpinned",
            f"{model_id} is not pinned, so a run that repeats this one takes what the model hub has"
            f" then; `model_name={name}` takes the same",
        )
    sizes: dict[str, Any] = {
        "common_dim": config.head_dim,
        "hidden_dim": config.head_hidden,
        "dropout": config.value("dropout"),
        "members": config.head_members,
    }
    spec = head_spec_for(backbone, config.head, **sizes, features=_features(config, backbone))
    return Start(
        Detector(backbone, build_head(spec, backbone)),
        family,
        model_id,
        None,
        _long_text(config, "truncate"),
    )


def _is_folder_asked(config: TrainConfig) -> bool:
    """Return whether `backbone` is a checkpoint's folder. One that is called as a family is reached
    by ./NAME.
    """
    return str(config.backbone) not in families() and is_checkpoint(config.backbone)


def _features(config: TrainConfig, backbone: Backbone) -> tuple[str, ...]:
    if config.head != "adapter":
        return ()
    return features_offered(backbone) if config.feature_names is None else config.feature_names


def _long_text(config: TrainConfig, otherwise: LongText) -> LongText:
    """Return what the option says, which TrainConfig has checked, else what holds without it."""
    return otherwise if config.long_text is None else config.long_text


def _from_checkpoint(folder: Path, config: TrainConfig) -> Start:
    meta = read_meta(folder)
    family = meta.family
    _check_head(folder, meta.head, config)
    if (
        _is_folder_asked(config)
        and config.model_name
        and Path(config.backbone).resolve() != Path(config.model_name).resolve()
    ):
        raise BackboneError(
            f"`backbone` {config.backbone} is a checkpoint and `model_name` {config.model_name}"
            " another model; leave one of them out"
        )
    asked = str(config.backbone).partition(":")[0]
    if asked not in (
        family,
        TrainConfig.__dataclass_fields__["backbone"].default,
    ) and not _is_folder_asked(config):
        raise BackboneError(
            f"{folder} is a checkpoint of {family}, but `backbone` asks for {asked}; leave one of"
            " them out"
        )
    detector, meta = load_detector(folder)
    trainable_head(detector, folder)
    return Start(
        detector, meta.family, meta.model_id, folder, _long_text(config, meta.score.long_text)
    )


def trainable_head(detector: Detector, checkpoint: Path | None) -> CosineHead:
    """Return the head; InputError, which names the checkpoint, for one that has no parameters."""
    if not isinstance(detector.head, CosineHead):
        raise InputError(
            f"the head of {checkpoint} has nothing to train; start from its backbone instead"
        )
    return detector.head


def _check_head(folder: Path, head: HeadSpec, config: TrainConfig) -> None:
    """Refuse, not ignore, an option that asks for another head than the one that a checkpoint
    brings.
    """
    for name, value in head_options(head).items():
        asked: Any = getattr(config, name)
        if asked not in (value, TrainConfig.__dataclass_fields__[name].default):
            raise InputError(
                f"`{name}` is {asked}, but the head of {folder} has {value}; leave `{name}` out, or"
                " start from the backbone with a new head"
            )


def load_sets(config: TrainConfig, processes: Processes = ALONE) -> tuple[PairSet, PairSet | None]:
    """Return rows to train on and rows to validate on, None where none are wanted. Every row is
    checked, by one process of each machine where there are several.
    """
    pairs = _load(str(config.train_csv), config, processes)
    _check_labels(pairs, str(config.train_csv))
    if config.val_csv is not None:
        held = _load(str(config.val_csv), config, processes)
        _warn_of_shared_rows(pairs, held)
        _warn_of_one_label(held)
        return pairs, held
    if config.val_fraction == 0:
        announce(
            "no validation rows: best_model is the last epoch's, and no threshold is stored; pass"
            " `val_csv` for one"
        )
        return pairs, None
    train, val = hold_out(pairs, config.val_fraction, config.seed)
    _check_labels(
        train,
        f"{config.train_csv} without the images held out for validation (`val_csv` and"
        " `val_fraction` choose others)",
    )
    _warn_of_one_label(val)
    announce(
        f"{len(val.images):,} of {len(pairs.images):,} images and their {len(val):,} rows are held"
        " out for validation; `val_csv` chooses others"
    )
    return train, val


def _load(path: str, config: TrainConfig, processes: Processes) -> PairSet:
    if processes.first_of_machine and (remark := reading_remark(path, config.columns)):
        announce(remark)
    return read_together(path, str(config.image_base_path), config.columns, processes)


def _check_labels(pairs: PairSet, where: str) -> None:
    if len(labels := np.unique(pairs.labels)) == 1:
        raise InputError(
            f"{where}: every label is {int(labels[0])}, so there is nothing to tell apart; add"
            " matches (1) and mismatches (0)"
        )


def _warn_of_shared_rows(pairs: PairSet, held: PairSet) -> None:
    """Say how many images to validate on are trained on, however their paths are written."""
    file = file_finder("")
    trained = [file(str(path)) for path in pairs.images]
    validated = [file(str(path)) for path in held.images]
    images = {*trained} & {*validated}
    if not images:
        return
    seen = {(trained[i], pairs.texts[j]) for i, j in _places(pairs)}
    rows = sum((validated[i], held.texts[j]) in seen for i, j in _places(held))
    warn(
        "shared_rows",
        f"{held.csv_file} shares {plural(len(images), 'image')} with {pairs.csv_file}"
        f" ({plural(rows, 'row')} with the same text), so its figures flatter the model; mismatch"
        " split keeps an image on one side",
    )


def _places(pairs: PairSet) -> Iterator[tuple[int, int]]:
    """Yield the places of each row's image and text."""
    return zip(pairs.image_of.tolist(), pairs.text_of.tolist(), strict=True)


def _warn_of_one_label(held: PairSet) -> None:
    if len(labels := np.unique(held.labels)) == 1:
        warn(
            "one_label",
            f"every validation label is {int(labels[0])}, so no calibration and no threshold is"
            " stored, and there is no AUROC",
        )


def cut_long_texts(
    start: Start, sets: Sequence[PairSet], processes: Processes = ALONE
) -> tuple[list[PairSet], int]:
    """Return the sets with their long texts in pieces, where `start` asks for that, and how many
    different texts are long. That number is also reported, and whether the texts can be read.
    """
    spec = start.detector.backbone.text_spec
    tokenizer = Tokenizer(spec)
    _warn_of_language(sets, tokenizer)
    cut = start.long_text != "truncate"
    cut_sets, count = cut_together(sets, tokenizer, processes, cut=cut)
    if count:
        line = long_texts_line(count, spec.context_length, start.long_text, now=True, advise=True)
        if cut:
            announce(line)
        else:
            warn("long_text", line)
    return cut_sets, count


def _warn_of_language(sets: Sequence[PairSet], tokenizer: Tokenizer) -> None:
    """Say which texts the backbone can't read, by at most `LOOKED_AT` of each set."""
    steps = [max(1, len(pairs.texts) // LOOKED_AT) for pairs in sets]
    line = unread_warning(
        tokenizer,
        (
            pairs.texts[number]
            for pairs, step in zip(sets, steps, strict=True)
            for number in range(0, len(pairs.texts), step)
        ),
    )
    if line:
        warn("language", line)


def make_feeds(
    config: TrainConfig, start: Start, sets: Sequence[PairSet], processes: Processes
) -> list[Feed]:
    """Return a feed per set. With a frozen backbone every image and text is embedded here, once."""
    if config.tune == "head":
        return _embedded(config, start, sets, processes)
    backbone = start.detector.backbone
    store = PixelStore(backbone.image_spec)
    tokenizer = Tokenizer(backbone.text_spec)
    return [PixelFeed(pairs, store, tokenizer, config.num_workers, processes) for pairs in sets]


def _embedded(
    config: TrainConfig, start: Start, sets: Sequence[PairSet], processes: Processes
) -> list[Feed]:
    meta = meta_for(start.family, start.model_id, start.detector.head.spec)
    engine = TorchEngine(start.detector, meta, device=processes.device)
    pipeline = Pipeline(engine, workers=config.num_workers)
    feeds = list[Feed]()
    for pairs in sets:
        # opened for each set, so that it has what other processes have embedded
        cache = EmbeddingCache(config.cache or default_cache(), namespace=engine.fingerprint)
        feeds.append(_embed(pairs, pipeline, cache, processes))
    return feeds


def _embed(
    pairs: PairSet, pipeline: Pipeline, cache: EmbeddingCache, processes: Processes
) -> EmbeddingFeed:
    """Embed this process's share, and give all processes all embeddings."""
    total = len(processes.share(len(pairs.images))) + len(processes.share(len(pairs.pieces)))
    with progress(f"embed {Path(pairs.csv_file).name}", total, "item") as advance:
        images, problems = _shared(
            pairs.images,
            lambda paths: embed_images(pipeline, paths, cache=cache, progress=advance),
            processes,
        )
        if problems:
            raise _all_problems(pairs, problems)
        pieces, bad_pieces = _shared(
            pairs.pieces,
            lambda texts: embed_texts(pipeline, texts, cache=cache, progress=advance),
            processes,
        )
    if bad_pieces:
        raise InputError(
            f"{pairs.csv_file}: text {shown(pairs.pieces[min(bad_pieces)])!r} can't be embedded:"
            f" {bad_pieces[min(bad_pieces)]}"
        )
    return EmbeddingFeed(pairs, images, pieces)


def _shared(
    items: Sequence[Item], embed: Callable[[list[Item]], Embedded], processes: Processes
) -> tuple[Tensor, dict[int, InputError]]:
    """Map N items, of which each process gives its share to `embed` → the embeddings of all (N, D),
    unless some have none, and why those have none, by number.
    """
    places = processes.share(len(items))
    made = list[Tensor]()

    def work() -> list[tuple[int, str, str]]:
        rows, problems = embed([items[i] for i in places])
        made.append(torch.from_numpy(rows).to(processes.device))
        return [(int(places[i]), type(error).__name__, str(error)) for i, error in problems.items()]

    problems = {
        place: cast("InputError", named(kind, message))
        for told in processes.each(work)
        for place, kind, message in told
    }
    return (
        made[0]
        if problems or processes.count == 1
        else processes.assemble(len(items), [(places, made[0])])
    ), problems


def _all_problems(pairs: PairSet, problems: dict[int, InputError]) -> InputError:
    """Return the first ten together; of the kind of the first."""
    errors = [
        pairs.image_error(i, error)
        for i, error in sorted(problems.items(), key=lambda item: pairs.lines[item[0]])
    ]
    more = (
        f" (and {len(errors) - SHOWN:,} more; mismatch validate lists all)"
        if len(errors) > SHOWN
        else ""
    )
    return type(errors[0])("; ".join(map(str, errors[:SHOWN])) + more)


def default_cache() -> Path:
    """Return the user's cache folder: $XDG_CACHE_HOME/mismatch, or where the platform has one."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "mismatch"
    if sys.platform == "win32":
        return (
            Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
            / "mismatch"
            / "Cache"
        )
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "mismatch"
