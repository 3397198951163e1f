"""Take one step: compute the gradients of a batch's loss, in parts and on all processes, and let
AdamW use them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mismatch.errors import DeviceError
from mismatch.training.callbacks import announce
from mismatch.training.detector import Detector, tower_methods
from mismatch.training.distributed.processes import Processes
from mismatch.training.feeds.batches import Batch
from mismatch.training.feeds.feeds import Feed, TowerPart
from mismatch.training.objective import TrainingObjective
from mismatch.training.optim import CLIP_NORM, trainable
from mismatch.training.precision import autocast

if TYPE_CHECKING:
    from mismatch.training.distributed.fsdp import Shards

__all__ = ["Step", "compile_towers"]

Moment = tuple[int, int]  # epoch and step, which with the seed decide all chance


class Step:
    """Updates a detector. A batch is the same in every process. Each embeds its share of the unique
    images and texts, and all see all embeddings. So the loss and its negatives are the whole
    batch's, whatever the number of processes and parts. Where there are several parts, the towers
    run twice: first without a graph, then part by part with the embeddings' gradients (GradCache,
    Gao et al. 2021). Dropout is drawn alike both times.
    """

    def __init__(  # noqa: PLR0913
        self,
        detector: Detector,
        objective: TrainingObjective,
        optimizer: torch.optim.Optimizer,
        processes: Processes,
        *,
        rows: int,
        parts: int = 1,
        precision: str = "fp32",
        seed: int = 0,
        shards: Shards | None = None,
    ) -> None:
        """Take the `rows` of a batch, the `parts` in which each process takes its share of it, and
        `shards` where no process has all of the backbone.
        """
        self.detector = detector
        self.objective = objective
        self.optimizer = optimizer
        self.processes = processes
        self.rows = rows
        self.parts = parts
        self.precision = precision
        self.seed = seed
        self.shards = shards
        self.parameters = trainable(detector)
        self.scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")

    @property
    def rows_at_once(self) -> int:
        """Return the rows of which one process holds what their gradients need."""
        return math.ceil(self.rows / (self.parts * self.processes.count))

    def __call__(self, feed: Feed, batch: Batch, inputs: Any, moment: Moment) -> Tensor:
        """Make one update → (2,) binary and contrastive loss before it, nats."""
        losses = self.gradients(feed, batch, inputs, moment)
        self.scaler.unscale_(self.optimizer)
        if self.shards is None:
            torch.nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
            self.scaler.step(self.optimizer)
        else:
            self.shards.clip(self.parameters, CLIP_NORM)
            self.shards.step(self.optimizer)
        self.scaler.update()
        self.objective.clamp()
        return losses

    def gradients(self, feed: Feed, batch: Batch, inputs: Any, moment: Moment) -> Tensor:
        """Set every parameter's gradient, times the scaler's scale → (2,) losses; in smaller parts
        from here on where memory runs out.
        """
        while (losses := self._try(feed, batch, inputs, moment)) is None:
            self._halve()
        self.processes.sum_gradients(
            trainable(self.detector.backbone)
            if self.shards is None
            else self.shards.whole_parameters
        )
        self.processes.average(
            [
                parameter.grad
                for parameter in trainable(self.objective.head)
                if parameter.grad is not None
            ]
        )
        return losses

    def embed(self, feed: Feed, batch: Batch, inputs: Any) -> tuple[Tensor, Tensor]:
        """Return embeddings of a batch's unique images (U, image_width) and pieces (W, text_width),
        fp32, with no graph.
        """
        parts = feed.parts(inputs, self.parts)
        with torch.no_grad():
            return self._join(
                feed, batch, parts, [feed.embed(self.detector, part) for part in parts]
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what exact resumption needs of it."""
        return {"parts": self.parts, "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as `state_dict` says."""
        # there are more where fewer processes go on with a run
        self.parts = max(self.parts, int(state["parts"]))
        self.scaler.load_state_dict(state["scaler"])

    def _try(self, feed: Feed, batch: Batch, inputs: Any, moment: Moment) -> Tensor | None:
        """Return the losses, gradients set; None, in every process, where memory ran out in one."""
        self.optimizer.zero_grad(set_to_none=True)
        parts = feed.parts(inputs, self.parts)
        outputs = self._unless_full(
            lambda: [
                self._encode(feed, parts, i, moment, self._keeps(parts, i))
                for i in range(len(parts))
            ]
        )
        if self.processes.any(outputs is None):
            return None
        embeddings = self._join(feed, batch, parts, outputs or [])
        losses = self._unless_full(
            lambda: self._backward(feed, batch, parts, outputs or [], embeddings, moment)
        )
        return None if self.processes.any(losses is None) else losses

    def _keeps(self, parts: Sequence[TowerPart], i: int) -> bool:
        """Return whether the first pass already makes the graph: of all there is, or of the last,
        whose turn is next.
        """
        return self.parts == 1 or i == len(parts) - 1

    def _encode(
        self, feed: Feed, parts: Sequence[TowerPart], i: int, moment: Moment, graph: bool
    ) -> Tensor:
        """Embed a part, (n, D), alike each time."""
        self._draw(moment, 1 + self.processes.index, i)
        with torch.set_grad_enabled(graph), autocast(self.precision, self.processes.device):
            return feed.embed(self.detector, parts[i])

    def _join(
        self, feed: Feed, batch: Batch, parts: Sequence[TowerPart], outputs: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return all processes' embeddings of unique images (U, image_width) and pieces (W,
        text_width), fp32, each a leaf of the graph.
        """
        if (embeddings := feed.embeddings_of(batch)) is not None:
            return embeddings
        sides = [
            [
                (part.places, rows)
                for part, rows in zip(parts, outputs, strict=True)
                if part.is_image == side
            ]
            for side in (True, False)
        ]
        return self.processes.assemble(len(batch.images), sides[0]), self.processes.assemble(
            len(batch.pieces), sides[1]
        )

    def _backward(
        self,
        feed: Feed,
        batch: Batch,
        parts: Sequence[TowerPart],
        outputs: list[Tensor],
        embeddings: tuple[Tensor, Tensor],
        moment: Moment,
    ) -> Tensor:
        """Go from the loss to the head and the embeddings, and from there through the towers, last
        part first; `outputs` is used up.
        """
        images, pieces = (
            embedding.requires_grad_() if parts else embedding for embedding in embeddings
        )
        self._draw(moment, 0, 0)
        binary, contrastive = self.objective.losses(batch, images, pieces)
        self.scaler.scale(self.objective.total(binary, contrastive)).backward()
        for i in reversed(range(len(parts))):
            output = outputs.pop()
            if not output.requires_grad and not self._keeps(parts, i):
                output = self._encode(feed, parts, i, moment, graph=True)
            gradient = (images if parts[i].is_image else pieces).grad
            if output.requires_grad and gradient is not None:  # a tower may be frozen
                output.backward(
                    gradient[torch.from_numpy(parts[i].places).to(gradient.device)].to(output.dtype)
                )
        return torch.stack([binary.detach(), contrastive.detach()])

    def _draw(self, moment: Moment, who: int, part: int) -> None:
        """Make chance a function of seed, epoch and step, and of who draws: 0 the head, alike
        everywhere, else a process's towers.
        """
        chance = np.random.SeedSequence((self.seed, *moment, who, part))
        seed = int(chance.generate_state(1, np.uint64)[0])
        if self.processes.device.type == "cpu":
            # torch.manual_seed notes the whole call stack for GPUs that may be used later
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _halve(self) -> None:
        """Make twice as many parts from here on; DeviceError where a part is one row already."""
        device = self.processes.device
        if self.rows_at_once == 1:
            advice = (
                "use `gradient_checkpointing`, a lower `precision`, `tune='head'`, or a smaller"
                " backbone"
            )
            raise DeviceError(f"{device} is out of memory even with one row at a time; {advice}")
        self.parts *= 2
        if device.type == "cuda":
            torch.cuda.empty_cache()
        then = f"`batch_size={self.rows_at_once}` and `gradient_accumulation_steps={self.parts}`"
        announce(
            f"{device} is out of memory: from here on as with {then}; a step has its {self.rows}"
            " rows as before"
        )

    def _unless_full(self, work: Callable[[], Any]) -> Any:
        """Return what `work` does; None where memory runs out. What was half done is freed with the
        frames that held it. DeviceError with shards, which others wait for by then.
        """
        try:
            return work()
        except torch.OutOfMemoryError:
            if self.shards is None:
                return None
        advice = (
            "lower `batch_size` and raise `gradient_accumulation_steps` as much, or use"
            " `gradient_checkpointing`"
        )
        raise DeviceError(
            f"{self.processes.device} is out of memory, and under `fsdp` one process can't take"
            f" smaller parts than the others; {advice}"
        )


def compile_towers(detector: Detector) -> None:
    """Put both towers through torch.compile, for any batch and any length, with the levels that the
    head takes. They are compiled when they are first called.
    """
    for name in tower_methods(detector):
        setattr(
            detector.backbone, name, torch.compile(getattr(detector.backbone, name), dynamic=True)
        )
