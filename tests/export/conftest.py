"""Tests that export many small towers."""

from __future__ import annotations

from tests.support.torchlib import torchlib_once  # noqa: F401 (a fixture of all tests here)
