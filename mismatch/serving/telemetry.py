"""Figures for Prometheus: requests, latencies by stage, the queue, batches, what was decided at
which scores, drift; and the log, in JSON.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from mismatch.runtime.predictor import Prediction
from mismatch.serving.log_writer import LogWriter

__all__ = ["Metrics", "log", "log_as_json", "logged_as_json"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SCORES = tuple(round(0.05 * step, 2) for step in range(1, 21))
# values of the labels, and the figure
Readings = Callable[[], Iterable[tuple[Sequence[str], float]]]

log = logging.getLogger("mismatch.serving")
LEVELS = {
    log.name: logging.INFO,
    "mismatch.runtime": logging.INFO,
    "uvicorn": logging.WARNING,
    "asyncio": logging.WARNING,
    "python_multipart": logging.ERROR,
}


class Metrics:
    """The figures of one service, in a registry of their own: two in one process don't mix."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._requests = Counter(
            "mismatch_requests", "Requests.", ["route", "status"], registry=registry
        )
        self._latency = Histogram(
            "mismatch_request_seconds",
            "From a request's head to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        stages = (
            "read: a request's head to its pairs; decode: one image; queue: a request's wait;"
            " score: a batch; explain: one pair; fetch: one image."
        )
        self._stages = Histogram(
            "mismatch_stage_seconds", stages, ["model", "stage"], buckets=SECONDS, registry=registry
        )
        self._batches = Histogram(
            "mismatch_batch_pairs",
            "Pairs that were scored together.",
            ["model"],
            buckets=SIZES,
            registry=registry,
        )
        self._scores = Histogram(
            "mismatch_similarity_score",
            "Scores by decision.",
            ["model", "prediction"],
            buckets=SCORES,
            registry=registry,
        )
        self._unscored = Counter(
            "mismatch_unscored_pairs",
            "Pairs that could not be scored.",
            ["model"],
            registry=registry,
        )
        self._problems = Counter(
            "mismatch_problems",
            "Requests that were refused or failed, by why.",
            ["kind"],
            registry=registry,
        )

    def request(self, route: str, status: int, seconds: float, kind: str) -> None:
        """Count a request that is answered; `kind`: of the problem, if it is one."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)
        if kind:
            self._problems.labels(kind).inc()

    def stage(self, model: str, stage: str, seconds: float) -> None:
        """Note how long a part of the work took."""
        self._stages.labels(model, stage).observe(seconds)

    def batch(self, model: str, size: int) -> None:
        """Count pairs that are taken from the queue."""
        self._batches.labels(model).observe(size)

    def scored(self, model: str, predictions: Sequence[Prediction]) -> None:
        """Count a batch that is scored."""
        for prediction in predictions:
            if prediction.similarity_score is None:
                self._unscored.labels(model).inc()
            else:
                self._scores.labels(model, prediction.prediction).observe(
                    prediction.similarity_score
                )

    def watch(self, name: str, words: str, labels: Sequence[str], read: Readings) -> None:
        """Add a figure that is read whenever somebody asks: labels and value of each."""
        self.registry.register(_Gauge(name, words, labels, read))

    def text(self) -> bytes:
        """Return all figures in Prometheus's own format."""
        return generate_latest(self.registry)


class _Gauge(Collector):
    """Figures as they are at the moment."""

    def __init__(self, name: str, words: str, labels: Sequence[str], read: Readings) -> None:
        self._name = name
        self._words = words
        self._labels = labels
        self._read = read

    def collect(self) -> Iterable[Any]:
        family = GaugeMetricFamily(self._name, self._words, labels=self._labels)
        for labels, value in self._read():
            family.add_metric(labels, value)
        yield family

    def describe(self) -> Iterable[Any]:
        """Return nothing, so that nothing is read while it is registered."""
        return []


class _Lines(logging.Formatter):
    """A record as a line of JSON; what was logged as a mapping, with its own keys."""

    def format(self, record: logging.LogRecord) -> str:
        fields = record.msg if isinstance(record.msg, dict) else {"message": record.getMessage()}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        } | fields
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_json(stream: Any = None) -> LogWriter:
    """Write the service's own log, and what uvicorn has to say, as lines of JSON.

    Not each flaw of each broken form: its sender receives the problem. `stream`: by default
    standard error.
    """
    writer = LogWriter(sys.stderr if stream is None else stream)
    writer.setFormatter(_Lines())
    for name, level in LEVELS.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = [writer]
        logger.setLevel(level)
        logger.propagate = False
    return writer


@contextmanager
def logged_as_json() -> Iterator[LogWriter]:
    """Do as `log_as_json` until the block ends; the loggers are then as they were."""
    loggers = [logging.getLogger(name) for name in LEVELS]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    try:
        yield log_as_json()
    finally:
        for logger, (handlers, level, propagates) in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagates
