"""Chance as a function of place: what a step draws depends on seed, epoch and step, and on nothing that ran before it."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["reseed", "seed_at"]


def seed_at(seed: int, *place: int) -> int:
    """A seed of 63 bits for a place in a run (epoch and step, or epoch and row); other places have others."""
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def reseed(seed: int, epoch: int, step: int, device: torch.device) -> None:
    """Begin a step of an epoch: dropout draws the same there, however many steps ran before it in this process."""
    here = seed_at(seed, epoch, step)
    torch.default_generator.manual_seed(here)  # torch.manual_seed asks every kind of device there might be, which takes longer than a small step
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(here)
    elif device.type == "mps":
        torch.mps.manual_seed(here)
