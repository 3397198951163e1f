"""What the service tells of a model."""

from __future__ import annotations

import mismatch
from mismatch.runtime.languages import scripts_read
from mismatch.runtime.predictor import Predictor
from mismatch.serving.configuration import Settings
from mismatch.serving.messages import Limits, ModelFacts

__all__ = ["model_facts"]


def model_facts(name: str, model_id: str, predictor: Predictor, settings: Settings) -> bytes:
    """Return the JSON of `ModelFacts`: name, versions, files, thresholds and limits."""
    engine = predictor.engine
    manifest = getattr(engine, "manifest", None)  # a bundle's; a checkpoint has its meta
    written = {} if manifest is None else {"written_by": manifest.mismatch_version}
    facts = ModelFacts(
        name=name,
        model_id=model_id,
        engine=engine.describe(),
        backbone=dict(getattr(manifest or getattr(engine, "meta", None), "backbone", {})),
        versions={"mismatch": mismatch.__version__} | written,
        files=dict(getattr(manifest, "files", {})),
        threshold=predictor.threshold,
        score=predictor.score.to_dict(),
        image_size=engine.image_spec.size,
        context_length=engine.text_spec.context_length,
        scripts=scripts_read(predictor.pipeline.tokenizer),
        limits=Limits(**{name: getattr(settings, name) for name in Limits.model_fields}),
    )
    return facts.model_dump_json().encode()
