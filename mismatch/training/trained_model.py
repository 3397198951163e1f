"""A model while it is trained: which weights change, their optimizer, and where they lie."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from mismatch.training.config import TrainConfig
from mismatch.training.distributed.fsdp import ShardedOptimizer, ShardedWeights, Shards
from mismatch.training.distributed.processes import Processes
from mismatch.training.feeds.prepare import Start, trainable_head
from mismatch.training.folder.resume import frozen_digest
from mismatch.training.folder.state import Stateful, Weights
from mismatch.training.optim import build_optimizer
from mismatch.training.tuning.weights import Tuning

__all__ = ["TrainedModel"]


class TrainedModel:
    """A detector made ready for `tune`, with its optimizer; its backbone may be in shards."""

    def __init__(
        self, config: TrainConfig, start: Start, processes: Processes, *, sharded: bool
    ) -> None:
        """Take what a run starts from; `sharded`: whether the backbone is spread over the
        processes. InputError for a head that can't be trained.
        """
        self.start = start
        self.detector = start.detector
        self.head = trainable_head(start.detector, start.checkpoint)
        self.tuning = Tuning(config, self.detector.backbone)
        if config.mode == "lora":
            # adapters are new: all processes begin with the main one's
            processes.follow_main([*self.tuning.state().values()])
        self.frozen_digest = frozen_digest(self.detector)
        with self.tuning.replacing():
            self.shards = Shards(self.detector, processes) if sharded else None
        self.optimizer = build_optimizer(
            self.detector,
            backbone_rate=float(config.value("learning_rate")),
            head_rate=float(config.value("head_learning_rate")),
            weight_decay=config.weight_decay,
            factors=self.tuning.factors,
        )

    def train_mode(self) -> None:
        """Put what trains into training mode, all else into eval mode."""
        self.tuning.train_mode()
        self.head.train()

    def whole_weights(self) -> AbstractContextManager[None]:
        """Make every weight whole in the main process until the block ends."""
        return nullcontext() if self.shards is None else self.shards.gathered()

    def stateful_parts(self) -> dict[str, Stateful]:
        """Return the weights and the optimizer, by the names under which they are saved."""
        weights = Weights(self.detector)
        if self.shards is None:
            return {"weights": weights, "optimizer": self.optimizer}
        return {
            "weights": ShardedWeights(weights, self.shards),
            "optimizer": ShardedOptimizer(self.optimizer, self.shards),
        }
