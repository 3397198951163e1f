"""Which columns hold the image, the text and the label, and how their values are to be understood:
label names, several images, paths that leave a folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, get_args

from mismatch.data.confined import ConfinedFolder
from mismatch.data.embedded.names import container_of
from mismatch.data.encoding import check_encoding
from mismatch.errors import InputError, LabelError
from mismatch.io.remote import Remote, is_url, located
from mismatch.io.web_images import WebImage, is_fetching, is_web_url, shown_url

__all__ = [
    "ALIASES",
    "COLUMNS",
    "LABELS",
    "Columns",
    "MultiImage",
    "file_finder",
    "folded",
    "leaving",
    "locate_image",
    "parse_label",
    "resolve_image",
    "usual_columns",
    "usual_names",
]

MultiImage = Literal["best", "all"]
LABELS = {"0": 0, "1": 1}  # mismatch, match
COLUMNS = ("image_path", "text", "label")
ALIASES = {
    "image_path": (
        *("image", "path", "file", "file_name", "filename", "img", "image_file", "image_name"),
    ),
    "text": ("caption", "title", "description", "comment", "name"),
    "label": ("target", "match", "is_match", "class", "y"),
}
SHORT = {"img"}  # of these: names that are suggested, and never taken by themselves
OPTIONS = {"image_path": "image_column", "text": "text_column", "label": "label_column"}
SEPARATOR = ";"  # between the images of a row
TABS = ("tab", "\\t")  # what stands for a tab where none can be typed
WHOLE = re.compile(r"([0-9]+)[.,]0+")  # a whole number that a program wrote with a fraction
NAMED = {
    "match": "match/mismatch",
    "mismatch": "match/mismatch",
    "true": "true/false",
    "false": "true/false",
    "yes": "yes/no",
    "no": "yes/no",
}


@dataclass(frozen=True)
class Columns:
    """How to read a file of rows. Whatever its columns are called there, rows have them as
    `image_path`, `text` and `label`.
    """

    image: str = "image_path"
    text: str = "text"
    label: str = "label"
    # names of labels, match=1,mismatch=0 or match/mismatch for short; 0 and 1 hold too, unless they
    # are named
    label_map: str = ""
    # a row's images are separated by ;, and it matches by its best one or by all; None: a row has
    # one image
    multi_image: MultiImage | None = None
    # folder or URL that image paths are relative to and may not leave; empty: they may lie anywhere
    inside: str = ""
    # folder or URL that image paths are relative to, wherever they may lie; "": working directory
    base: str = field(default="", repr=False)
    # of CSV, TSV and JSON lines; None: UTF-8
    encoding: str | None = field(default=None, repr=False)  # digests of rows read in UTF-8 stay
    # what stands between the fields of CSV and TSV; None: what the name or the header says
    delimiter: str | None = field(default=None, repr=False)
    # whether images of an image folder, whose paths are relative to it without a base, may leave it
    outside: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        names = (self.image, self.text, self.label)
        if not all(name.strip() for name in names) or len(set(names)) < len(names):
            raise InputError(
                f"image, text and label are read from the columns {', '.join(map(repr, names))};"
                " three different names are needed"
            )
        if self.multi_image not in (None, *get_args(MultiImage)):
            raise InputError(f"`multi_image` is {self.multi_image!r}; best or all is needed")
        _ = self.labels  # refuses a wrong map at once
        if self.encoding is not None:
            check_encoding(self.encoding)
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", _checked_delimiter(self.delimiter))

    @cached_property
    def labels(self) -> dict[str, int]:
        """Map what may stand in the label's column, in lower case → 0 or 1."""
        if not isinstance(self.label_map, str):
            raise InputError(
                f"`label_map` is {self.label_map!r}; a text such as 'match=1,mismatch=0' is needed"
            )
        named = _label_map(self.label_map) if self.label_map.strip() else {}
        return named if named.keys() & LABELS.keys() else LABELS | named

    def label_of(self, written: str) -> int | None:
        """Return the label that is written so; None for none. A whole number may end in .0."""
        label = self.labels.get(written)
        if label is None:
            plain = written.strip().lower()
            whole = WHOLE.fullmatch(plain)
            label = self.labels.get(plain)
            if label is None and whole:
                label = self.labels.get(whole[1])
        return label

    @cached_property
    def restrained(self) -> bool:
        """Return whether a path has to be looked at before it is taken."""
        return bool(self.inside) or self.multi_image is not None

    @cached_property
    def _confined(self) -> ConfinedFolder:
        return ConfinedFolder(self.inside)

    @cached_property
    def _home(self) -> Path | Remote:
        return located(self.inside)

    def named(self, header: list[str]) -> list[str]:
        """Return the columns as rows have them. One that is not asked for, but has the name of one
        that is, becomes `input_NAME`.
        """
        asked = {self.image: "image_path", self.text: "text", self.label: "label"}
        taken = {*header, *COLUMNS}
        names = []
        for name in header:
            new = asked.get(name, name)
            while name not in asked and new in (COLUMNS if new == name else taken):
                new = f"input_{new}"
            taken.add(new)
            names.append(new)
        return names

    def asked(self, name: str) -> str:
        """Return what `image_path`, `text` or `label` is called in the file."""
        return {"image_path": self.image, "text": self.text, "label": self.label}[name]

    def images(self, image_path: str) -> list[str]:
        """Return the paths of a row's images, as written; one, unless `multi_image` says that there
        may be several.
        """
        if self.multi_image is None:
            return [image_path]
        paths = (part.strip() for part in image_path.split(SEPARATOR))
        return [path for path in paths if path]

    def path_problem(self, image_path: str) -> str | None:
        """Return why a row's image can't be taken from where it is said to lie, or None."""
        if not self.restrained:
            return None
        paths = self.images(image_path)
        if not paths:
            return "the image_path is empty"
        if is_fetching():  # what is wrong with a URL is said when it is fetched
            paths = [path for path in paths if not is_web_url(path)]
        if isinstance(self._home, Remote):
            problems = (_unlocated(self._home, path) for path in paths)
            return next((problem for problem in problems if problem), None)
        if not self.inside:
            return None
        outside = next((path for path in paths if self._confined.leaves(path)), None)
        return None if outside is None else leaving(outside, self.inside)


_PLAIN = Columns()


def parse_label(value: str, columns: Columns | None = None) -> int:
    """Return the label that is written 0 or 1, or as the label map of `columns` says; LabelError
    for anything else.
    """
    columns = _PLAIN if columns is None else columns
    labels = columns.labels
    written = value.strip()
    label = columns.label_of(value)
    if label is None and not written:
        raise LabelError(f"the label is empty; {' or '.join(labels)} is needed")
    if label is None and labels == LABELS:
        named = NAMED.get(written.lower())
        hint = f"; the label map {named} reads it" if named else ""
        raise LabelError(
            f"label {value!r} is neither 0 nor 1 (1 = the text describes the image){hint}"
        )
    if label is None:
        raise LabelError(f"label {value!r} is none of {', '.join(labels)}")
    return label


def resolve_image(image_base_path: str | Path, image_path: str) -> Path | WebImage:
    """Return where a row's image lies; an empty base is the working directory, an absolute path is
    taken as it is. A URL of http or https is an image of the web, which is read only while somebody
    fetches.
    """
    if is_web_url(image_path):
        return WebImage.of(image_path)
    return Path(image_base_path) / image_path


def file_finder(image_base_path: str) -> Callable[[str], str]:
    """Return what tells the file that a spelling means. It looks a folder up once, as there are
    few.
    """
    real = cache(os.path.realpath)

    def file(spelling: str) -> str:
        if is_web_url(spelling):
            return spelling
        spelt = str(resolve_image(image_base_path, spelling))
        container = container_of(spelt)
        folder, name = os.path.split(container)
        path = os.path.join(real(folder), name)
        path = real(path) if name == ".." or os.path.islink(path) else path
        return path + spelt[len(container) :]

    return file


def locate_image(base: Path | Remote, image_path: str, *, outside: bool = False) -> Path | Remote:
    """Return what `resolve_image` does, below a base that may be a URL of a store. InputError for a
    URL of the web unless somebody fetches, for any other URL, and for a path that leaves such a
    base; with `outside` it may lie anywhere in the base's kind of store.
    """
    if is_web_url(image_path):
        if is_fetching():
            return WebImage.of(image_path)
        raise InputError(
            f"image {shown_url(image_path)!r} is an address, and images are fetched only where"
            " `fetch_images` says so; turn that on, or run mismatch fetch first"
        )
    if isinstance(base, Remote):
        return base.below(image_path, outside=outside)
    if is_url(image_path):
        raise InputError(
            f"image {image_path!r} is an address; only what lies below an image base path that"
            " is a URL is fetched: pass that, or give a path"
        )
    return base / image_path


def leaving(path: str, folder: str) -> str:
    """Return what to say of an image that lies outside the folder that paths may not leave."""
    return (
        f"image {path!r} leaves the image base path {folder}; allow outside images if it may lie"
        " elsewhere"
    )


def usual_columns(
    names: Sequence[str], columns: Columns, preferred: Mapping[str, str]
) -> dict[str, str]:
    """Map usual names of columns → image_path or text, which is missing and not asked for by
    another name; where several are usual, none is taken.

    `preferred`: the usual name that a format has for each.
    """
    taken = {}
    for needed in COLUMNS[:2]:
        if needed in names or columns.asked(needed) != needed:
            continue
        usual = usual_names(names, needed)
        same = [name for name in usual if folded(name) == needed]
        if preferred.get(needed) in usual:
            taken[preferred[needed]] = needed
        elif len(same or usual) == 1:
            [name] = same or usual
            taken[name] = needed
    return taken


def usual_names(names: Iterable[str], needed: str) -> list[str]:
    """Return the names that usually stand for a needed column."""
    usual = {needed, *ALIASES[needed]} - SHORT
    return [name for name in names if name not in COLUMNS and folded(name) in usual]


def folded(name: str) -> str:
    """Return a column's name without what people write differently."""
    return name.lower().replace(" ", "_").replace("-", "_")


def _checked_delimiter(delimiter: object) -> str:
    """Return what separates columns; InputError for what can't."""
    if isinstance(delimiter, str):
        sign = "\t" if delimiter in TABS else delimiter
        if len(sign) == 1 and not sign.isalnum() and sign not in "\"'\r\n\0 ._-/\\":
            return sign
    raise InputError(
        f"`delimiter` is {delimiter!r}; a single sign such as ';', '|' or tab is needed"
    )


def _label_map(text: str) -> dict[str, int]:
    names = text.split("/")
    equals = [part.partition("=") for part in text.split(",")]
    pairs = (
        [(names[0], "1"), (names[1], "0")]
        if len(names) == 2 and "=" not in text
        else [(name, value) for name, _, value in equals]
    )
    labels = {name.strip().lower(): LABELS.get(value.strip(), -1) for name, value in pairs}
    if set(labels.values()) != {0, 1} or "" in labels or len(labels) < len(pairs):
        raise InputError(
            f"`label_map` {text!r} is not understood; write NAME=1,NAME=0 as in match=1,mismatch=0,"
            " or match/mismatch for short"
        )
    return labels


def _unlocated(base: Remote, path: str) -> str | None:
    try:
        locate_image(base, path)
    except InputError as error:
        return str(error)
    return None
