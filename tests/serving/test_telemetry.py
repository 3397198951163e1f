"""Figures in Prometheus's format."""

from __future__ import annotations

import io
import json
import logging
from datetime import datetime

from mismatch.runtime.predictor import Prediction
from mismatch.serving.telemetry import Metrics, log, log_as_json


def test_what_was_counted_is_told() -> None:
    metrics, other = Metrics(), Metrics()
    metrics.request("/v1/predict", 200, 0.02, "")
    metrics.request("/v1/predict", 503, 0.001, "too busy")
    metrics.batch("m", 7)
    metrics.scored(
        "m",
        [
            Prediction("", "t", 0.93, 0.5, True, "match", "ok", 1.0),
            Prediction("", "t", None, 0.5, None, "error", "cut short"),
        ],
    )
    metrics.stage("m", "score", 0.04)
    waiting = [3]
    metrics.watch(
        "mismatch_queue_pairs", "Pairs that wait.", ["model"], lambda: [(["m"], waiting[0])]
    )
    waiting[0] = 4
    text = metrics.text().decode()
    for line in (
        'mismatch_requests_total{route="/v1/predict",status="200"} 1.0',
        'mismatch_requests_total{route="/v1/predict",status="503"} 1.0',
        'mismatch_request_seconds_count{route="/v1/predict"} 2.0',
        'mismatch_batch_pairs_bucket{le="8.0",model="m"} 1.0',
        'mismatch_similarity_score_bucket{le="0.95",model="m",prediction="match"} 1.0',
        'mismatch_similarity_score_bucket{le="0.9",model="m",prediction="match"} 0.0',
        'mismatch_unscored_pairs_total{model="m"} 1.0',
        'mismatch_stage_seconds_count{model="m",stage="score"} 1.0',
        'mismatch_problems_total{kind="too busy"} 1.0',
        'mismatch_queue_pairs{model="m"} 4.0',
    ):
        assert line in text.splitlines(), line
    assert "mismatch_requests_total{" not in other.text().decode(), "each service counts for itself"


def test_the_log_is_a_line_of_json_for_each_record() -> None:
    held = io.StringIO()
    writer = log_as_json(held)
    try:
        log.info({"id": "a", "status": 200, "text": "ü\nü"})
        try:
            raise RuntimeError("detail")
        except RuntimeError:
            log.exception({"id": "b"})
        logging.getLogger("python_multipart.multipart").warning("of a broken form")
        logging.getLogger("uvicorn.error").warning("%s is odd", "this")
        assert writer.drain()
    finally:
        for name in (log.name, "uvicorn", "python_multipart"):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
    first, second, third = (json.loads(line) for line in held.getvalue().splitlines())
    assert (first["id"], first["status"], first["text"], first["level"]) == (
        "a",
        200,
        "ü\nü",
        "info",
    )
    assert datetime.fromisoformat(first["time"]).tzinfo is not None
    assert second["id"] == "b"
    assert "RuntimeError: detail" in second["traceback"]
    assert (third["message"], third["level"]) == ("this is odd", "warning")
