"""Backbones: the hook that plugins implement, the registry of what is installed, and the base class
(in `base`, which imports torch).
"""

from __future__ import annotations

from mismatch.backbones.families import BackboneFamily, Problem
from mismatch.backbones.hookspecs import API_VERSION, hookimpl
from mismatch.backbones.registry import families, family, load_backbone, parse_reference, problems

__all__ = [
    "API_VERSION",
    "BackboneFamily",
    "Problem",
    "families",
    "family",
    "hookimpl",
    "load_backbone",
    "parse_reference",
    "problems",
]
