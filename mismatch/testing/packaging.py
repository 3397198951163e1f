"""What the installed plugin brings."""

from __future__ import annotations

import json
from importlib import metadata

from mismatch.backbones.base import Backbone
from mismatch.testing.checks import Checks, in_new_process
from mismatch.testing.outcomes import fail, skip

__all__ = ["PackagingChecks"]


HEAVY = (
    "torch",
    "tensorflow",
    "jax",
    "transformers",
    "open_clip",
    "timm",
    "torchvision",
    "onnx",
    "onnxruntime",
)

_HOOK = """
import contextlib, importlib, io, json, sys
with contextlib.redirect_stdout(io.StringIO()) as printed:
    importlib.import_module(sys.argv[1].partition(":")[0])
heavy = sorted(set(json.loads(sys.argv[2])) & set(sys.modules))
print(json.dumps([heavy, printed.getvalue()]))
"""

_FAMILY = """
import json, sys
from mismatch.backbones.registry import families
family = families().get(sys.argv[1])
print(json.dumps(family and [family.distribution, family.module]))
"""


class PackagingChecks(Checks):
    """What the installed plugin brings."""

    def test_hook_is_light(self, backbone: Backbone) -> None:
        """The module of the hook imports no torch, so that `mismatch --help` and predictions from a
        bundle stay fast.
        """
        family = self._family()
        loaded, printed = json.loads(
            in_new_process(
                _HOOK, family.module, json.dumps(HEAVY), what=f"importing {family.module}"
            )
        )
        if loaded:
            fail(
                f"importing {family.module} imports {', '.join(loaded)}; import them inside load(),"
                " where they are needed"
            )
        if printed.strip():
            fail(
                f"importing {family.module} prints {printed.strip().splitlines()[0]!r}, and every"
                " command's output would hold it; use the logging module"
            )

    def test_entry_point(self, backbone: Backbone) -> None:
        """The installed distribution brings the family by its entry point, from any working
        directory.
        """
        family = self._family()
        owner = json.loads(
            in_new_process(_FAMILY, family.name, what=f"asking for the family {family.name}")
        )
        if owner is None:
            fail(
                f"{family.name} is found from this folder only; install the plugin, or give its"
                " place on PYTHONPATH"
            )
        if owner != [family.distribution, family.module]:
            fail(
                f"in a new process {family.name} comes from {owner}, here from"
                f" {[family.distribution, family.module]}; is an older copy installed?"
            )
        if _is_editable(family.distribution):
            skip(
                f"{family.distribution} is installed in editable mode; to check what its wheel"
                " holds, pip install the wheel"
            )
        if not _owns(family.distribution, family.module):
            fail(
                f"the installed {family.distribution} holds no file of the module {family.module};"
                " add its package to the wheel"
            )


def _is_editable(distribution: str) -> bool:
    origin = metadata.distribution(distribution).read_text("direct_url.json")
    return bool(json.loads(origin).get("dir_info", {}).get("editable")) if origin else False


def _owns(distribution: str, module: str) -> bool:
    files = metadata.files(distribution)
    if files is None:
        skip(
            f"{distribution} has no RECORD of its files; pip install its wheel to check what it"
            " holds"
        )
    return module.partition(":")[0].partition(".")[0] in {
        file.parts[0].partition(".")[0] for file in files
    }
