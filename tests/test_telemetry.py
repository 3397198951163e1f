"""Figures in Prometheus's format."""

from __future__ import annotations

from mismatch.runtime.predictor import Prediction
from mismatch.serving.telemetry import Metrics


def test_what_was_counted_is_told() -> None:
    metrics, other = Metrics(), Metrics()
    metrics.request("/v1/predict", 200, 0.02)
    metrics.request("/v1/predict", 503, 0.001)
    metrics.batch(7)
    metrics.scored([Prediction("", "t", 0.93, 0.5, True, "match", "ok", 1.0), Prediction("", "t", None, 0.5, None, "error", "cut short")], 0.04)
    text = metrics.text().decode()
    for line in (
        'mismatch_requests_total{route="/v1/predict",status="200"} 1.0',
        'mismatch_requests_total{route="/v1/predict",status="503"} 1.0',
        'mismatch_request_seconds_count{route="/v1/predict"} 2.0',
        'mismatch_batch_pairs_bucket{le="8.0"} 1.0',
        'mismatch_similarity_score_bucket{le="0.95",prediction="match"} 1.0',
        'mismatch_similarity_score_bucket{le="0.9",prediction="match"} 0.0',
        "mismatch_unscored_pairs_total 1.0",
        "mismatch_scoring_seconds_count 1.0",
    ):
        assert line in text.splitlines(), line
    assert "mismatch_requests_total{" not in other.text().decode(), "each service counts for itself"
