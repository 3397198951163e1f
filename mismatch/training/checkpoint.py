"""A checkpoint on disk: the backbone in upstream's own format, the head in safetensors, and
mismatch.json that says what they are.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors.torch import save_file

from mismatch import __version__
from mismatch.backbones.registry import families, load_backbone, require_family
from mismatch.errors import CheckpointError, InputError
from mismatch.io.atomic import (
    atomic_directory,
    is_leftover,
    is_sealed,
    sealed,
    sha256_file,
    write_json,
)
from mismatch.io.reading import check_regular, parse_json, read_text
from mismatch.io.retries import reason
from mismatch.runtime.card_file import CARD, is_own_card
from mismatch.spec_base import check_choice
from mismatch.specs import ColourProfile, HeadSpec, ScoreSpec
from mismatch.training.detector import Detector, see_colours
from mismatch.training.head import build_head
from mismatch.training.head_file import check_head_size, check_widths, load_head

__all__ = [
    "FORMAT_VERSION",
    "CheckpointMeta",
    "clone_checkpoint",
    "foreign_files",
    "is_checkpoint",
    "load_detector",
    "meta_for",
    "read_meta",
    "save_checkpoint",
    "write_meta",
    "write_stats",
]

FORMAT_VERSION = 1
META = "mismatch.json"
HEAD = "classification_head.safetensors"
STATS = "training_stats.json"
# what resuming needs, see state.py
NOTE = "training_state.json"
PARTS = "training_state.pt"
OURS = frozenset({META, HEAD, STATS, NOTE, PARTS})  # every other file is the backbone's
BACKBONE = ("family", "model_id", "distribution", "version", "api_version")


@dataclass(frozen=True)
class CheckpointMeta:
    """Everything about a checkpoint but its weights."""

    family: str  # of the backbone: hf-clip
    model_id: str  # what the backbone was first loaded from
    distribution: str  # that the plugin came from, with its version
    version: str
    api_version: int
    head: HeadSpec
    score: ScoreSpec
    train: dict[str, Any] = field(default_factory=dict)  # TrainConfig.to_dict
    mismatch_version: str = ""
    # name → sha256, hex; none in older ones
    files: dict[str, str] = field(default_factory=dict, compare=False)
    # of the backbone's image spec, which its own files may not know; older ones ignored it
    colour_profile: ColourProfile = "convert"
    commit: str = ""  # of the hub's repository that the backbone was first loaded from

    @property
    def backbone(self) -> dict[str, Any]:
        """Return the part that a bundle's manifest carries too."""
        parts = {name: getattr(self, name) for name in BACKBONE}
        return parts | ({"commit": self.commit} if self.commit else {})

    def to_dict(self) -> dict[str, Any]:
        """Return it with plain JSON types."""
        return {
            "format_version": FORMAT_VERSION,
            "mismatch_version": self.mismatch_version,
            "backbone": {name: getattr(self, name) for name in BACKBONE},
            "backbone_commit": self.commit,  # apart: earlier versions refuse more in `backbone`
            "head": self.head.to_dict(),
            "score": self.score.to_dict(),
            "train": self.train,
            "colour_profile": self.colour_profile,
            "files": self.files,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CheckpointMeta:
        """Rebuild from `to_dict`."""
        meta = cls(
            **data["backbone"],
            head=HeadSpec.from_dict(data["head"]),
            score=ScoreSpec.from_dict(data["score"]),
            train=data["train"],
            mismatch_version=data["mismatch_version"],
            files=data.get("files", {}),
            colour_profile=data.get("colour_profile", "ignore"),
            commit=data.get("backbone_commit", ""),
        )
        meta._check_types()
        return meta

    def _check_types(self) -> None:
        """Raise InputError for a value of another type than the annotations say."""
        for name in ("family", "model_id", "distribution", "version", "mismatch_version", "commit"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name} is no text")
        check_choice(self, "colour_profile", ColourProfile)
        if not isinstance(self.train, dict) or not isinstance(self.files, dict):
            raise InputError("train or files is no object")
        for name, digest in self.files.items():
            if not isinstance(digest, str) or not _is_inside(name):
                raise InputError(
                    f"files names {name!r}, which is outside the folder, or has no hash for it"
                )


def _is_inside(name: str) -> bool:
    """Return whether a name with / between its parts is one of a file below a folder."""
    return (
        "\0" not in name
        and "\\" not in name
        and not name.startswith("/")
        and ".." not in PurePosixPath(name).parts
    )


def meta_for(
    family: str,
    model_id: str,
    head: HeadSpec,
    *,
    score: ScoreSpec | None = None,
    train: dict[str, Any] | None = None,
    commit: str = "",
) -> CheckpointMeta:
    """Return the meta of a detector made here and now. Without a score spec it scores by plain
    probability and 0.5. `commit`: of the backbone's files on the hub.
    """
    plugin = families()[family]
    return CheckpointMeta(
        family,
        model_id,
        plugin.distribution,
        plugin.version,
        plugin.api_version,
        head,
        score or ScoreSpec("probability", 0.5),
        train or {},
        __version__,
        commit=commit,
    )


def is_checkpoint(path: str | Path) -> bool:
    """Return whether the folder is one that `save_checkpoint` wrote."""
    return (Path(path) / META).is_file()


def foreign_files(folder: Path) -> list[str]:
    """Return the files in a checkpoint that nothing here wrote, and that would go with it. There
    are none where it has no list, as in older ones.
    """
    try:
        listed = read_meta(folder).files
    except CheckpointError:
        return []
    paths = [path for path in folder.rglob("*") if not path.is_dir()]
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    return [
        name
        for name in names
        if listed
        and name not in listed
        and name not in OURS
        and not is_leftover(Path(name).name)
        and not is_own_card(folder / name)
    ]


def save_checkpoint(
    folder: Path,
    detector: Detector,
    meta: CheckpointMeta,
    stats: Mapping[str, Any],
    *,
    backbone_files: Path | None = None,
    write_more: Callable[[Path], object] | None = None,
) -> None:
    """Write a checkpoint, whole or not at all. `backbone_files`: a checkpoint with this very
    backbone, whose files are shared instead of written again. `write_more` puts further files of
    ours into the folder that it is given.
    """
    with atomic_directory(folder) as part, _system_errors():
        if backbone_files is None:
            detector.backbone.save_pretrained(part)
        else:
            _share_files(backbone_files, part)
        save_file(
            {name: tensor.contiguous() for name, tensor in detector.head.state_dict().items()},
            part / HEAD,
            metadata={"format": "pt"},
        )
        hashes = _hashes(part, _known_hashes(backbone_files))
        profile = detector.backbone.image_spec.colour_profile
        write_meta(part, replace(meta, files=hashes, colour_profile=profile))
        write_json(part / STATS, stats)
        if write_more is not None:
            write_more(part)
        _keep_foreign_files(folder, part)


@contextlib.contextmanager
def _system_errors() -> Iterator[None]:
    """Raise a full disk as the OSError that it is. safetensors raises a bare Exception of it: `I/O
    error: No space left on device (os error 28)`.
    """
    try:
        yield
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if isinstance(error, OSError) or number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def clone_checkpoint(
    source: Path,
    folder: Path,
    stats: Mapping[str, Any],
    *,
    write_more: Callable[[Path], object] | None = None,
) -> None:
    """Write the same checkpoint under another name with other statistics. Weights are hard-linked
    where the file system can. `write_more`: as of `save_checkpoint`.
    """
    with atomic_directory(folder) as part:
        _share_files(source, part)
        shutil.copyfile(source / HEAD, part / HEAD)
        shutil.copyfile(source / META, part / META)
        write_json(part / STATS, stats)
        if write_more is not None:
            write_more(part)
        _keep_foreign_files(folder, part)


def _keep_foreign_files(folder: Path, part: Path) -> None:
    """Copy to the folder that takes a checkpoint's place what somebody has put there meanwhile."""
    for name in foreign_files(folder):
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / name, part / name, follow_symlinks=False)


def _known_hashes(folder: Path | None) -> dict[str, str]:
    """Return the hashes of the backbone's files in a checkpoint whose files are shared."""
    if folder is None:
        return {}
    return {name: digest for name, digest in read_meta(folder).files.items() if name not in OURS}


def _hashes(folder: Path, known_hashes: Mapping[str, str]) -> dict[str, str]:
    """Return the hashes of all files in a checkpoint that nothing rewrites later."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    return {
        name: known_hashes.get(name) or sha256_file(folder / name)
        for name in names
        if name == HEAD or name not in OURS
    }


def _share_files(source: Path, target: Path) -> None:
    """Hard-link, else copy, the backbone's files. Safe, as every writer here replaces a file and
    none changes one in place.
    """
    # a card is of one checkpoint, but for the one that a backbone brings
    others = OURS if CARD in read_meta(source).files else {*OURS, CARD}
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir()
        elif path.parent != source or path.name not in others:
            _link(path, place)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def write_meta(folder: Path, meta: CheckpointMeta) -> None:
    """Replace mismatch.json, e.g. with another threshold."""
    write_json(folder / META, sealed(meta.to_dict()))


def write_stats(folder: Path, stats: Mapping[str, Any]) -> None:
    """Replace training_stats.json."""
    write_json(folder / STATS, stats)


def read_meta(folder: Path) -> CheckpointMeta:
    """Return what a checkpoint says of itself; CheckpointError where it is none, damaged or of
    another format.
    """
    path = folder / META
    try:
        data = parse_json(read_text(path))
    except OSError as error:
        raise CheckpointError(
            f"{path} can't be read: {reason(error)}; {_other_folder(folder)}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not valid JSON ({error}); train or copy the checkpoint again"
        ) from error
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise CheckpointError(
            f"{path} has format_version {version!r}, this mismatch reads {FORMAT_VERSION}; upgrade"
            " mismatch-clip or train again"
        )
    if not is_sealed(data):
        raise CheckpointError(
            f"{path} differs from its own checksum: damaged or changed by hand; copy the checkpoint"
            " again"
        )
    try:
        return CheckpointMeta.from_dict(data)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, InputError) as error:
        raise CheckpointError(
            f"{path} is incomplete or damaged ({error!r}); train or copy the checkpoint again"
        ) from error


def _other_folder(folder: Path) -> str:
    """Return what to do about a folder that isn't a checkpoint."""
    nested = sorted(path.parent.name for path in folder.glob(f"*/{META}"))
    if nested:
        return f"pass one of the checkpoints in it: {', '.join(nested)}"
    return (
        "a checkpoint of mismatch train has one; plain weights are named FAMILY:FOLDER, as in"
        " hf-clip:./my_clip"
    )


def load_detector(folder: str | Path) -> tuple[Detector, CheckpointMeta]:
    """Return a checkpoint's detector on the CPU, in eval mode, and what the checkpoint says of
    itself.
    """
    folder = Path(folder)
    meta = read_meta(folder)
    _check_files(folder, meta.files)
    require_family(meta.family, meta.distribution, meta.version)
    with torch.random.fork_rng(devices=[]):  # first weights are drawn, to be replaced
        # the whole path, so that a folder called tiny is not taken for the model
        backbone = load_backbone(meta.family, str(folder.resolve()))
        backbone.model_id = meta.model_id
        backbone.commit = meta.commit
        see_colours(backbone, meta.colour_profile)
        check_widths(folder, backbone, meta.head)
        check_head_size(folder / HEAD, meta.head)
        head = build_head(meta.head)
    detector = Detector(backbone, head)
    load_head(detector, folder / HEAD)
    return detector.eval(), meta


def _check_files(folder: Path, hashes: Mapping[str, str]) -> None:
    """Raise CheckpointError for the first file that is not as it was written."""
    for name, digest in sorted(hashes.items()):
        try:
            check_regular(folder / name)
            same = sha256_file(folder / name) == digest
        except OSError as error:
            raise CheckpointError(
                f"{folder / name} can't be read: {reason(error)}; copy the checkpoint again, whole"
            ) from error
        if not same:
            raise CheckpointError(
                f"{folder / name} differs from the sha256 in {META}: damaged or changed; copy the"
                " checkpoint again, or train again"
            )
