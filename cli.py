"""The launcher of a checkout: `python cli.py train …` is `mismatch train …`."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ADVICE = (
    "this checkout is not installed ({reason}); from its folder run: python -m pip install -e"
    ' ".[train]"'
)


def main() -> None:
    """Run this checkout's code, built-in plugins included, or say which pip line it needs."""
    sys.path.insert(0, str(Path(__file__).resolve().parent / "plugins"))
    try:
        distribution("mismatch-clip")  # whose entry points name the backbones
        from mismatch.cli import main as run
    except PackageNotFoundError:
        sys.exit(_say("its entry points are unknown to this Python"))
    except ModuleNotFoundError as error:
        sys.exit(_say(f"there is no module {error.name!r}"))
    run(prog_name="mismatch")


def _say(reason: str) -> int:
    print(f"mismatch: error: {ADVICE.format(reason=reason)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
