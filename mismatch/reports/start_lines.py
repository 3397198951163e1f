"""What `mismatch` says to who types nothing else: three ways to begin."""

from __future__ import annotations

__all__ = ["START"]

START = """\
mismatch: does this text describe this image?

See it work on drawn products, without data or network:
  mismatch quickstart

Train on your own rows image_path,text,label:
  mismatch train --train-csv train.csv --image-base-path photos

Score pairs with a model that you have:
  mismatch predict --model MODEL --csv rows.csv --image-base-path photos --output scores.csv

All commands: mismatch --help. What this machine has and lacks: mismatch doctor."""
