"""Figures for Prometheus: requests, latencies, the queue's batches, and what was decided at which scores."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from mismatch.runtime.predictor import Prediction

__all__ = ["Metrics"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SCORES = tuple(round(0.05 * step, 2) for step in range(1, 21))


class Metrics:
    """Of one service: its own registry, so that two in one process don't mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("mismatch_requests", "Requests.", ["route", "status"], registry=self.registry)
        self._latency = Histogram("mismatch_request_seconds", "From a request's head to its answer.", ["route"], buckets=SECONDS, registry=self.registry)
        self._scoring = Histogram("mismatch_scoring_seconds", "Of one batch.", buckets=SECONDS, registry=self.registry)
        self._batches = Histogram("mismatch_batch_pairs", "Pairs that were scored together.", buckets=SIZES, registry=self.registry)
        self._scores = Histogram("mismatch_similarity_score", "Scores by decision.", ["prediction"], buckets=SCORES, registry=self.registry)
        self._errors = Counter("mismatch_unscored_pairs", "Pairs that could not be scored.", registry=self.registry)

    def request(self, route: str, status: int, seconds: float) -> None:
        """One is answered."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def batch(self, size: int) -> None:
        """Pairs are taken from the queue."""
        self._batches.observe(size)

    def scored(self, found: Sequence[Prediction], seconds: float) -> None:
        """A batch is scored."""
        self._scoring.observe(seconds)
        for one in found:
            if one.similarity_score is None:
                self._errors.inc()
            else:
                self._scores.labels(one.prediction).observe(one.similarity_score)

    def text(self) -> bytes:
        """In Prometheus's own format."""
        return generate_latest(self.registry)
