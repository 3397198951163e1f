"""What its towers compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mismatch.backbones.base import Backbone
from mismatch.io.text import article
from mismatch.runtime.preprocess import Preprocessor
from mismatch.runtime.tokenize import TokenBatch, Tokenizer
from mismatch.testing import samples
from mismatch.testing.checks import Checks
from mismatch.testing.outcomes import CLOSE, SAME, fail, percent, skip
from mismatch.testing.probes import (
    ImageProbe,
    LevelsProbe,
    Probe,
    TextLevelsProbe,
    TextProbe,
    distance,
    pad_to_context,
    pixels_of,
    probes_of,
    spread,
    to_numpy,
)

__all__ = ["TowerChecks"]

LARGE = 67  # rows: more than are tried at first, and no multiple of a usual chunk


class TowerChecks(Checks):
    """What its towers compute."""

    def test_widths(self, backbone: Backbone) -> None:
        """Embeddings are (B, dim), of floats, as wide as declared."""
        for tower in probes_of(backbone):
            output = tower()
            if not isinstance(output, Tensor):
                fail(
                    f"{tower.name} returns {article(type(output).__name__)}; return the tensor of"
                    " embeddings"
                )
            if tuple(output.shape) != (len(tower), tower.width):
                if output.ndim != 2:
                    fail(
                        f"{tower.name} gives {tuple(output.shape)} for {len(tower)} inputs; pool or"
                        f" flatten to one vector each: {(len(tower), tower.width)}"
                    )
                needed = (
                    f"but {tower.declared} is {tower.width}, so {(len(tower), tower.width)} is"
                    " needed"
                )
                fail(
                    f"{tower.name} gives {tuple(output.shape)} for {len(tower)} inputs, {needed};"
                    f" set {tower.declared} to the width of its output"
                )
            if (alone := tuple(tower([0]).shape)) != (1, tower.width):
                fail(
                    f"{tower.name} gives {alone} for one input, where {(1, tower.width)} belongs;"
                    " does a squeeze() drop the batch axis?"
                )
            if output.dtype != torch.float32:
                fail(f"{tower.name} gives {output.dtype}; load fp32 weights (dtype=torch.float32)")
            if not bool(torch.isfinite(output).all()):
                fail(f"{tower.name} gives nan or infinity for plain inputs")
            if spread(to_numpy(output)) < 1e-6:
                fail(
                    f"{tower.name} gives the same embedding for every input; it doesn't use what it"
                    " is given"
                )

    def test_inputs_are_kept(self, backbone: Backbone) -> None:
        """What a tower is given is as it was afterwards."""
        for tower in probes_of(backbone):
            before = [array.copy() for array in tower.inputs]
            tower.embed()
            if any(
                not np.array_equal(old, new) for old, new in zip(before, tower.inputs, strict=True)
            ):
                fail(
                    f"{tower.name} changes its input in place, which others read after it; write"
                    " x = x - mean for x -= mean, x.clamp(…) for x.clamp_(…)"
                )

    def test_not_normalised(self, backbone: Backbone) -> None:
        """The head normalises; a backbone hands over what its projection gives."""
        for tower in probes_of(backbone):
            lengths = np.linalg.norm(tower.embed(), axis=1)
            if np.ptp(lengths) < 1e-5 and abs(lengths.mean() - 1) < 1e-4:
                fail(
                    f"{tower.name} gives embeddings of length 1: they are normalised here and by"
                    " the head again; return them before normalising"
                )

    def test_eval_is_deterministic(self, backbone: Backbone) -> None:
        """In eval mode the same input gives the same embedding."""
        for tower in probes_of(backbone):
            if (gap := distance(tower.embed(), tower.embed())) > SAME:
                fail(
                    f"{tower.name} gives another embedding for the same input in eval mode"
                    f" ({percent(gap)}): something random is left on, such as functional.dropout"
                    " without training=self.training"
                )

    def test_rows_are_independent(self, backbone: Backbone) -> None:
        """A row's embedding does not depend on what else is in its batch."""
        for tower in probes_of(backbone):
            together = tower.embed()
            alone = np.concatenate([tower.embed([i]) for i in range(len(tower))])
            if (gap := distance(together, alone)) > CLOSE:
                fail(
                    f"{tower.name} gives a row another embedding alone than among others"
                    f" ({percent(gap)}): something looks across rows in eval mode, such as batch"
                    " norm without running statistics, or a mean over the batch"
                )

    def test_large_batches(self, backbone: Backbone) -> None:
        """A batch of more rows than it was tried with gives each row its embedding."""
        for tower in probes_of(backbone):
            rows = [row % len(tower) for row in range(LARGE)]
            together = tower.embed(rows)
            expected = tower.embed()[rows]
            if together.shape != expected.shape:
                fail(
                    f"{tower.name} gives {together.shape} for {LARGE} inputs; one row for each is"
                    " needed, in batches of any size"
                )
            if (gap := distance(expected, together)) > CLOSE:
                fail(
                    f"{tower.name} gives rows of a batch of {LARGE} other embeddings than in one of"
                    f" {len(tower)} ({percent(gap)}); a size is fixed, or rows are put together in"
                    " another order"
                )

    def test_whole_text_is_read(self, backbone: Backbone) -> None:
        """Every token of a text of `context_length` tokens matters, the last one included."""
        spec = backbone.text_spec
        full, other = (Tokenizer(spec)([text]) for text in (samples.LONG, samples.OTHER_LONG))
        if full.input_ids.shape != other.input_ids.shape:
            skip("two long texts become unlike numbers of tokens")
        unlike = np.flatnonzero(full.input_ids[0] != other.input_ids[0])
        if not len(unlike):
            skip("two long texts become the same tokens")
        changed = full.input_ids.copy()
        changed[0, unlike[-1]] = other.input_ids[0, unlike[-1]]
        whole = TextProbe(backbone, full).embed()
        again = TextProbe(backbone, TokenBatch(changed, full.attention_mask, full.truncated))
        if np.array_equal(whole, again.embed()):
            fail(
                f"token {unlike[-1] + 1} of a text of {changed.shape[1]} changes nothing:"
                f" encode_text reads fewer than the {spec.context_length} tokens of"
                " text_spec.context_length; set that to what it reads"
            )

    def test_padding(self, backbone: Backbone) -> None:
        """`padding="longest"`: a text at its own length embeds as when it is padded to
        context_length.
        """
        spec = backbone.text_spec
        if spec.padding != "longest":
            skip('text_spec.padding is "context": texts always have one length')
        tokenizer = Tokenizer(spec)
        gaps = []
        whole = TextProbe(backbone, pad_to_context(tokenizer(samples.TEXTS), spec)).embed()
        for i, text in enumerate(samples.TEXTS):
            gaps.append(
                distance(
                    whole[i : i + 1], TextProbe(backbone, tokenizer([text])).embed(), among=whole
                )
            )
        if max(gaps) > CLOSE:
            other = (
                f"a text padded to {spec.context_length} has another embedding than at its own"
                f" length ({percent(max(gaps))})"
            )
            remedy = (
                "encode_text attends to pads or pools over them; use attention_mask, or set"
                ' padding="context"'
            )
            fail(f'text_spec.padding is "longest", but {other}: {remedy}')

    def test_words_are_told_apart(self, backbone: Backbone) -> None:
        """Words of as many letters become other tokens."""
        tokenizer = Tokenizer(backbone.text_spec)
        words = sorted({word.strip(",").lower() for text in samples.TEXTS for word in text.split()})
        alike: dict[int, list[str]] = {}
        for word in words:
            alike.setdefault(len(word), []).append(word)
        groups = [group for group in alike.values() if len(group) > 1]
        if all(_are_one(tokenizer, group) for group in groups):
            first, second = groups[0][:2]
            fail(
                f"the tokenizer gives {first!r} and {second!r} the same ids, as any words of as"
                " many letters; is its vocabulary that of the weights, in the form that it reads?"
            )

    def test_texts(self, backbone: Backbone) -> None:
        """Empty, long and unusual texts give finite embeddings."""
        tokenizer = Tokenizer(backbone.text_spec)
        for name, text in samples.UNUSUAL_TEXTS.items():
            output = TextProbe(
                backbone, tokenizer([text]), name=f"encode_text, given a text that is {name},"
            ).embed()
            if not np.isfinite(output).all():
                fail(
                    f"encode_text gives nan for a text that is {name} ({text[:20]!r}); if it"
                    " divides by the number of tokens, clamp that to 1 at least"
                )

    def test_images(self, backbone: Backbone) -> None:
        """Tiny, elongated, grey, transparent and 16-bit images give finite embeddings."""
        preprocess = Preprocessor(backbone.image_spec)
        for name, image in samples.unusual_images().items():
            output = ImageProbe(
                backbone, preprocess(image)[None], name=f"encode_image, given {name},"
            ).embed()
            if not np.isfinite(output).all():
                fail(f"encode_image gives nan for an image {name}")

    def test_levels(self, backbone: Backbone) -> None:
        """`image_levels` and `text_levels` are as wide as declared, finite, independent of the
        batch, and the same in one pass with the embedding.
        """
        if not backbone.levels_dim and not backbone.text_levels_dim:
            skip("levels_dim and text_levels_dim are 0: it offers no features of earlier layers")
        images, texts = probes_of(backbone)
        for tower, plain, both in (
            (LevelsProbe(backbone, pixels_of(backbone)), images, backbone.encode_image_and_levels),
            (
                TextLevelsProbe(backbone, Tokenizer(backbone.text_spec)(samples.TEXTS)),
                texts,
                backbone.encode_text_and_levels,
            ),
        ):
            if tower.width:
                self._check_levels(tower, plain, both)

    def _check_levels(
        self, tower: Probe, plain: Probe, both: Callable[..., tuple[Tensor, Tensor]]
    ) -> None:
        together = tower.embed()
        if together.shape != (len(tower), tower.width) or not np.isfinite(together).all():
            fail(
                f"{tower.name} gives {together.shape}, nan or infinity; ({len(tower)},"
                f" {tower.width}) finite numbers are needed, as {tower.declared} says"
            )
        if (
            distance(together, np.concatenate([tower.embed([i]) for i in range(len(tower))]))
            > CLOSE
        ):
            fail(f"{tower.name} gives a row other features alone than among others")
        with torch.inference_mode():
            results = [to_numpy(value) for value in both(*map(torch.from_numpy, tower.inputs))]
        for name, expected, value in (
            (plain.name, plain.embed(), results[0]),
            (tower.name, together, results[1]),
        ):
            if value.shape != expected.shape or distance(expected, value) > CLOSE:
                fail(
                    f"{plain.name}_and_levels gives something else than {name}; it must give what"
                    f" {plain.name} and {tower.name} give"
                )


def _are_one(tokenizer: Tokenizer, words: Sequence[str]) -> bool:
    return len({tuple(tokenizer([word]).input_ids[0].tolist()) for word in words}) == 1
