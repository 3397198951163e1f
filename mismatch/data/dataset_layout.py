"""Which files of a dataset's repository are rows, and of which split: by what its README.md
declares, else by the names that `datasets` of Hugging Face knows.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from mismatch.data.dataset_card import Subset
from mismatch.errors import InputError

__all__ = ["IMAGES", "SHARDED", "chosen_files", "files_pattern"]

SHARDED = (".parquet", ".pq", ".arrow", ".tar")  # several of them are read as one source
READ = (*SHARDED, ".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json")
READ_NAMES = "Parquet, Arrow, CSV, TSV, JSON and tar"
# JSON that stands next to rows
ABOUT = ("dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json")
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
METADATA = "metadata"  # the stem of an image folder's rows
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
SHARD = re.compile(r"([A-Za-z]\w*(?:\.\w+)*)-\d{5}-of-\d{5}", re.ASCII)  # a split and its parts
WORDS = re.compile(r"[^A-Za-z]+", re.ASCII)
DIGITS = re.compile(r"(\d+)", re.ASCII)
LONGEST_PATTERN = 200  # characters of what stands for several files; a name has 255
SHOWN = 8  # URLs in one message
MAX_WILDCARDS = 8


def chosen_files(
    names: Sequence[str], part: str, subsets: Sequence[Subset] | None, url: str
) -> list[str]:
    """Return the files of rows that a part of a repository means: a split, a file, a folder, or
    SUBSET/SPLIT; empty: its only split.

    `names`: all files; `subsets`: what README.md declares; `url`: of the repository, for messages.
    InputError where several splits could be meant, with the URL of each, and where nothing is.
    """
    rows = sorted(filter(_is_rows, names))
    if part in names:
        if part not in rows:
            raise InputError(f"{url}/{part}: rows of this format are not read, but {READ_NAMES}")
        return _one_source([part], url)
    if not rows:
        shown = ", ".join(sorted(names)[:SHOWN]) or "no files"
        raise InputError(f"{url} has no files of rows that are read ({READ_NAMES}); it has {shown}")
    groups = _declared(rows, subsets or ()) or _by_name(rows)
    below = [name for name in rows if name.startswith(f"{part}/")]
    if subsets and len(subsets) == 1 and f"{part}/".startswith(f"{subsets[0].name}/"):
        part = part.removeprefix(subsets[0].name).lstrip("/")
    if part and part not in groups:
        start, _, last = part.rpartition("/")
        usual = posixpath.join(start, SPLITS.get(last, last))
        inside = {name: files for name, files in groups.items() if name.startswith(f"{part}/")}
        if usual in groups:
            return _one_source(groups[usual], url)
        if not inside and not below:
            raise InputError(
                f"{url} has no split, file or folder {part!r}; write {_urls(list(groups), url)}"
            )
        groups = inside or _by_name(below, f"{part}/")
    if part in groups:
        return _one_source(groups[part], url)
    if len(groups) > 1:
        groups = _defaults(groups, subsets or (), part)
    if len(groups) > 1:
        raise InputError(f"{url} has several splits; write {_urls(list(groups), url)}")
    return _one_source(next(iter(groups.values())), url)


def files_pattern(files: Sequence[str]) -> str:
    """Return one name for several files of the same ending, as `shard_files` reads it:
    `data/train-{00000..00003}-of-00004.parquet`. InputError where they have too little in common.
    """
    if len(files) == 1:
        return files[0]
    return _numbered(files) or _listed(files)


def _is_rows(name: str) -> bool:
    file = posixpath.basename(name)
    is_hidden = any(folder.startswith((".", "__")) for folder in name.split("/"))
    return file.lower().endswith(READ) and file not in ABOUT and not is_hidden


def _declared(rows: Sequence[str], subsets: Sequence[Subset]) -> dict[str, list[str]]:
    """Map splits, of several subsets SUBSET/SPLIT → their files, as README.md declares them."""
    groups = {}
    for subset in subsets:
        for split, patterns in subset.splits.items():
            files = [name for name in rows if any(_matches(name, each) for each in patterns)]
            label = split if len(subsets) == 1 else posixpath.join(subset.name, split)
            if files:
                groups[label] = files
    return groups


def _defaults(
    groups: Mapping[str, list[str]], subsets: Sequence[Subset], part: str
) -> dict[str, list[str]]:
    """Return the splits of the subset that stands for all, where nothing else is asked for."""
    default = next((subset.name for subset in subsets if subset.is_default), None)
    chosen = {name: files for name, files in groups.items() if name.startswith(f"{default}/")}
    return chosen if chosen and not part and default is not None else dict(groups)


def _matches(name: str, pattern: str) -> bool:
    """Return whether a file is one of a pattern's, in which ** stands for any folders."""
    pattern = pattern.removeprefix("./")
    if pattern.count("*") + pattern.count("?") > MAX_WILDCARDS:
        return False
    if "**" not in pattern:
        return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)
    return fnmatchcase(name, pattern) or fnmatchcase(name, pattern.replace("**/", ""))


def _by_name(rows: Sequence[str], start: str = "") -> dict[str, list[str]]:
    """Map splits → their files, by names; of several folders FOLDER/SPLIT. A file whose name says
    no split stands for itself where others do.
    """
    places = {name: _split_of(name.removeprefix(start)) for name in rows}
    if not any(split for _folder, split in places.values()):
        places = {name: (folder, "train") for name, (folder, _split) in places.items()}
    folders = {folder for folder, split in places.values() if split}
    groups: dict[str, list[str]] = {}
    for name, (folder, split) in places.items():
        label = start + (posixpath.join(folder, split) if len(folders) > 1 else split)
        groups.setdefault(label if split else name, []).append(name)
    return groups


def _split_of(name: str) -> tuple[str, str]:
    """Return the folder of a file, without the part that names a split, and its split; "" where
    nothing says it.
    """
    folder, file = posixpath.split(name)
    stem = posixpath.splitext(file)[0]
    if word := _split_word(stem):
        return folder, word
    folders = folder.split("/")
    for number in reversed(range(len(folders))):
        if word := _split_word(folders[number]):
            return posixpath.join("", *folders[:number], *folders[number + 1 :]), word
    shard = SHARD.fullmatch(stem)
    is_split = shard is not None and shard[1] != "data"
    return folder, shard[1] if shard is not None and is_split else ""


def _split_word(text: str) -> str:
    return next((SPLITS[word] for word in WORDS.split(text.lower()) if word in SPLITS), "")


def _one_source(files: list[str], url: str) -> list[str]:
    """Return files that can be read together. InputError for others, with the URL of each."""
    endings = {posixpath.splitext(name)[1].lower() for name in files}
    if len(files) > 1 and (len(endings) > 1 or not endings <= set(SHARDED)):
        raise InputError(
            f"{url} has {len(files):,} files there, of {', '.join(sorted(endings))}, and several"
            f" are read as one only of the same format, {', '.join(SHARDED)}; write"
            f" {_urls(files, url)}"
        )
    if posixpath.splitext(posixpath.basename(files[0]))[0] == METADATA:
        repository = url.removeprefix("hf://datasets/").partition("@")[0]
        raise InputError(
            f"{url}/{files[0]} is of a folder of images, which are not downloaded one by one; run"
            f" `hf download {repository} --repo-type dataset --local-dir FOLDER` and give FOLDER"
        )
    return files


def _urls(parts: Sequence[str], url: str) -> str:
    shown = [f"{url}/{part}" for part in parts[:SHOWN]]
    more = f" (and {len(parts) - SHOWN:,} more)" if len(parts) > SHOWN else ""
    return " or ".join(shown) + more


def _numbered(files: Sequence[str]) -> str | None:
    """Return the pattern of names that differ by a number which counts up; None for others."""
    pieces = [DIGITS.split(name) for name in files]
    if len({len(parts) for parts in pieces}) > 1:
        return None
    places = [place for place, texts in enumerate(zip(*pieces, strict=True)) if len({*texts}) > 1]
    if len(places) != 1 or places[0] % 2 == 0:
        return None
    numbers = [parts[places[0]] for parts in pieces]
    first = int(numbers[0])
    if [int(number) for number in numbers] != list(range(first, first + len(files))):
        return None
    if len({len(number) for number in numbers}) > 1:
        return None
    parts = list(pieces[0])
    parts[places[0]] = f"{{{numbers[0]}..{numbers[-1]}}}"
    return "".join(parts)


def _listed(files: Sequence[str]) -> str:
    """Return the pattern of names that have a beginning and an end in common."""
    stems = [posixpath.splitext(name)[0] for name in files]
    ending = posixpath.splitext(files[0])[1]
    start = posixpath.commonprefix(stems)
    middles = [stem.removeprefix(start) for stem in stems]
    choices = f"{{{','.join(middles)}}}"
    if len(choices) > LONGEST_PATTERN:
        raise InputError(
            f"{files[0]} and {len(files) - 1:,} more files have no numbers that count up, and are"
            " too many to read as one; name one of them"
        )
    return f"{start}{choices}{ending}"
