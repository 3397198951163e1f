"""The files of a new plugin, as `mismatch backbones new NAME` writes them and the site shows
them.
"""

from __future__ import annotations

import re
from pathlib import Path

from mismatch.backbones.registry import families
from mismatch.errors import InputError
from mismatch.io.outputs import refuse_model_folder

__all__ = ["plugin_files", "write_plugin"]

# installing a plugin of such a name would overwrite a package
OURS = ("mismatch-clip", "mismatch-hf-clip", "mismatch-openclip")
# a family's name that is also a fit name for a package
FAMILY = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def plugin_files(family: str) -> dict[str, str]:
    """Return the text of each path in the plugin's folder, for the family `family`; InputError for
    a name that no package can have.
    """
    if not FAMILY.fullmatch(family):
        needed = (
            "lower-case letters, digits and single dashes between them, beginning with a letter,"
            " are needed, as in my-towers"
        )
        raise InputError(f"{family!r} can't name a plugin; {needed}")
    words = family.split("-")
    names = {
        "family": family,
        "distribution": f"mismatch-{family}",
        "module": f"mismatch_{'_'.join(words)}",
    }
    if names["distribution"] in OURS:
        raise InputError(
            f"{names['distribution']} is mismatch itself or a part of it; choose another name than"
            f" {family!r}"
        )
    names["Class"] = "".join(word.capitalize() for word in words) + "Backbone"
    sources = {
        "pyproject.toml": "pyproject",
        "README.md": "readme",
        f"{names['module']}/__init__.py": "init",
        f"{names['module']}/backbone.py": "backbone",
        f"tests/test_{'_'.join(words)}.py": "test",
    }
    return {path: _filled(source, names) for path, source in sources.items()}


def write_plugin(family: str, folder: Path) -> list[Path]:
    """Write the files to `folder`, which has to be new or empty; return their paths. InputError for
    the name of a family that is installed.
    """
    taken = families().get(family)
    if taken is not None:
        raise InputError(
            f"the family {family!r} is there already, from {taken.distribution}; choose another"
            " name"
        )
    files = plugin_files(family)
    refuse_model_folder(folder, "`folder`")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder; choose another one")
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def _filled(source: str, names: dict[str, str]) -> str:
    text = (Path(__file__).parent / f"{source}.tmpl").read_text(encoding="utf-8")
    return re.sub(r"@(family|distribution|module|Class)@", lambda match: names[match[1]], text)
