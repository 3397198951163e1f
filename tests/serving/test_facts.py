"""mismatch.serving.facts: what /v1/model says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import mismatch
from mismatch.serving.configuration import Settings
from mismatch.serving.facts import model_facts
from mismatch.serving.models import Served
from mismatch.serving.telemetry import Metrics


def test_of_a_bundle_and_of_a_checkpoint(
    tiny_bundles: dict[str, Path], tiny_checkpoints: dict[str, Path]
) -> None:
    for folder in (tiny_bundles["hf-clip"], tiny_checkpoints["hf-clip"]):
        predictor = mismatch.load(folder)
        settings = Settings(model=str(folder), max_pairs=7)
        facts = json.loads(model_facts("mine", "0123", predictor, settings))
        assert (facts["name"], facts["model_id"]) == ("mine", "0123")
        assert facts["threshold"] == predictor.threshold
        assert facts["limits"]["max_pairs"] == 7
        assert facts["versions"]["mismatch"] == mismatch.__version__
        assert bool(facts["files"]) == (folder == tiny_bundles["hf-clip"])


def test_they_are_made_once(tiny_bundles: dict[str, Path]) -> None:
    async def twice() -> list[bytes]:
        settings = Settings(model=str(tiny_bundles["hf-clip"]))
        predictor = mismatch.load(tiny_bundles["hf-clip"])
        served = Served("mine", predictor, settings, Metrics())
        return [await served.facts(), *await asyncio.gather(served.facts(), served.facts())]

    first, *others = asyncio.run(twice())
    assert all(facts is first for facts in others)
    assert json.loads(first)["name"] == "mine"
