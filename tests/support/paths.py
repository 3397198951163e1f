"""Where things lie, and whether a whole run was asked for."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["BUNDLE", "ROOT", "WHOLE"]

ROOT = Path(__file__).resolve().parents[2]  # of the project
BUNDLE = ROOT / "tests" / "fixtures" / "bundles" / "format-1"  # a small one that is kept
WHOLE = os.environ.get("WHOLE") == "1"  # all rows and all moments, where a part is enough each day
