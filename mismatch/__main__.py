"""`python -m mismatch …` is `mismatch …`."""

from __future__ import annotations

from mismatch.cli import main

if __name__ == "__main__":
    main(prog_name="mismatch")
