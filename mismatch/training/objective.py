"""From a batch's embeddings to what training minimises and what validation looks at: the head, the
losses, and texts in pieces.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mismatch.specs import LongText
from mismatch.training.detector import row_cosines
from mismatch.training.feeds.batches import Batch, PairSet
from mismatch.training.head import CosineHead
from mismatch.training.losses import binary_loss, contrastive_loss

__all__ = ["TrainingObjective"]

VAL_PIECES = 4096  # of texts, whose cosines are taken together: as many rows where no text is cut
MAX_TEMPERATURE = 100.0  # CLIP's bound on what multiplies the contrastive cosine


class TrainingObjective:
    """A head and how it is taught."""

    def __init__(self, head: CosineHead, long_text: LongText, contrastive_weight: float) -> None:
        self.head = head
        self.long_text = long_text
        self.contrastive_weight = contrastive_weight

    def losses(self, batch: Batch, images: Tensor, pieces: Tensor) -> tuple[Tensor, Tensor]:
        """Map a batch's unique images (U, image_width) and pieces (W, text_width) → binary and
        contrastive loss, nats. Both are means over the head's members; 0 for one that has no
        weight.
        """
        _, image_rows, text_rows, piece_of = self._cosines(batch, images, pieces)
        labels = batch.labels.to(images.device)
        losses = []
        # (B, D') each
        for image_part, text_part in zip(
            self.head.members(image_rows), self.head.members(text_rows), strict=True
        ):
            binary = binary_loss(self.head.logit((image_part * text_part).sum(-1)), labels)
            contrastive = (
                self._contrastive(batch, image_part, text_part, piece_of)
                if self.contrastive_weight
                else torch.zeros_like(binary)
            )
            losses.append(torch.stack([binary, contrastive]))
        binary, contrastive = torch.stack(losses).mean(0)
        return binary, contrastive

    def total(self, binary: Tensor, contrastive: Tensor) -> Tensor:
        """Return what is minimised."""
        return binary + self.contrastive_weight * contrastive

    @torch.no_grad()
    def clamp(self) -> None:
        """Keep the temperature in CLIP's bounds: the parameter, as CLIP does; a clamp in the graph
        would leave one at its bound without a gradient.
        """
        self.head.log_temperature.clamp_(max=math.log(MAX_TEMPERATURE))

    def centre(self, batch: Batch, images: Tensor, pieces: Tensor) -> None:
        """Start with logit 0 at this batch's mean cosine."""
        cosine, *_ = self._cosines(batch, images, pieces)
        self.head.start(float(self.head.log_scale.detach().exp()), float(cosine.mean()))

    def logits(self, pairs: PairSet, images: Tensor, pieces: Tensor) -> NDArray[np.float32]:
        """Map embeddings of all unique images (U, image_width) and pieces (W, text_width) → (N,)
        logits of all rows.
        """
        # (U, D), (W, D)
        images = self.head.embed_image(images)
        pieces = self.head.embed_text(pieces)
        cosines = [
            self._row_cosines(pairs, rows, images, pieces) for rows in pairs.row_slices(VAL_PIECES)
        ]
        logits: NDArray[np.float32] = self.head.logit(torch.cat(cosines)).float().cpu().numpy()
        return logits

    def _cosines(
        self, batch: Batch, images: Tensor, pieces: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Map embeddings of unique images (U, image_width) and pieces (W, text_width) → cosine
        (B,), both sides a row (B, D), length 1 but for mean texts, and which piece is a row's text
        (B,) in 0..W, where one of several was chosen.
        """
        piece_of = batch.piece_of.to(images.device)
        image_rows = self.head.embed_image(images)[batch.image_of.to(images.device)]
        row_pieces = self.head.embed_text(pieces)[piece_of]  # (M, D)
        cosine, text_rows, chosen = row_cosines(
            image_rows, row_pieces, batch.row_of.to(images.device), self.long_text
        )
        return cosine, image_rows, text_rows, None if chosen is None else piece_of[chosen]

    def _contrastive(
        self, batch: Batch, image_rows: Tensor, text_rows: Tensor, piece_of: Tensor | None
    ) -> Tensor:
        device = image_rows.device
        matched = batch.labels.nonzero().squeeze(1)  # (M,)
        ids = (batch.image_of[matched].to(device), batch.text_of[matched].to(device))
        matched = matched.to(device)
        piece_ids = None if piece_of is None else piece_of[matched]
        return contrastive_loss(
            image_rows[matched],
            text_rows[matched],
            *ids,
            self.head.log_temperature.exp(),
            piece_ids,
        )

    def _row_cosines(
        self, pairs: PairSet, rows: NDArray[np.int64], images: Tensor, pieces: Tensor
    ) -> Tensor:
        """Map all images (U, D) and pieces (W, D), of length 1 → (B,) cosines of these rows."""
        row_pieces, row_of = map(torch.from_numpy, pairs.row_pieces(rows))
        image_rows = images[torch.from_numpy(pairs.image_of[rows])]
        return row_cosines(
            image_rows, pieces[row_pieces], row_of.to(images.device), self.long_text
        )[0]
