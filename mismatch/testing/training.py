"""That it can be trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from PIL import Image
from torch import Tensor

from mismatch.backbones.base import Backbone
from mismatch.errors import BackboneError
from mismatch.runtime.tokenize import Tokenizer
from mismatch.testing import samples
from mismatch.testing.checks import Checks
from mismatch.testing.outcomes import fail, skip
from mismatch.testing.probes import (
    ImageProbe,
    LevelsProbe,
    Probe,
    TextLevelsProbe,
    TextProbe,
    copied,
    pixels_of,
    probes_of,
)

__all__ = ["TrainingChecks", "gradient_of", "thawed"]


VOCABULARY = 128  # rows, from where on an embedding is taken for one of tokens


class TrainingChecks(Checks):
    """That it can be trained."""

    def test_gradients(self, backbone: Backbone) -> None:
        """Both towers learn, down to the pixels and to the words."""
        for tower in probes_of(backbone):
            with thawed(backbone):
                output = tower()
                if not output.requires_grad:
                    fail(
                        f"{tower.name} cuts the gradient: it runs under no_grad or inference_mode,"
                        " or detaches; it would never learn"
                    )
                output.square().sum().backward()
                reached = [
                    name
                    for name, parameter in backbone.named_parameters()
                    if parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
                ]
                words = [
                    module.weight.grad
                    for module in backbone.modules()
                    if isinstance(module, torch.nn.Embedding) and len(module.weight) > VOCABULARY
                ]
            if not reached:
                fail(
                    f"no parameter gets a gradient from {tower.name}; are its weights parameters of"
                    " the backbone, registered as modules?"
                )
            if tower.declared == "text_dim" and words and all(grad is None for grad in words):
                fail(
                    f"no word gets a gradient from {tower.name}, only {len(reached)} later"
                    " parameters do; is something detached on the way?"
                )
        _check_levels_learn(backbone)
        pixels = torch.from_numpy(pixels_of(backbone)).requires_grad_()
        with thawed(backbone):
            backbone.encode_image(pixels).square().sum().backward()
        if pixels.grad is None or not bool(pixels.grad.abs().sum() > 0):
            fail(
                "no gradient of encode_image reaches the pixels; is something detached on the way?"
            )

    def test_gradients_are_finite(self, backbone: Backbone) -> None:
        """A blank image and an empty text give finite gradients, as one of them would end a run."""
        blank = pixels_of(backbone, [Image.new("RGB", (64, 64))])
        empty = Tokenizer(backbone.text_spec)([""])
        for tower, what in (
            (ImageProbe(backbone, blank), "a blank image"),
            (TextProbe(backbone, empty), "an empty text"),
        ):
            if not bool(torch.isfinite(gradient_of(tower, backbone)).all()):
                fail(
                    f"{tower.name} gives nan or infinite gradients for {what}; add a small number"
                    " below a root or a division, before it is taken"
                )

    def test_checkpointing(self, backbone: Backbone) -> None:
        """With `checkpoint_gradients`, where it is offered, both towers get the same gradients in
        training.
        """
        thrifty = copied(backbone).train()
        try:
            thrifty.checkpoint_gradients()
        except (BackboneError, NotImplementedError):
            skip("checkpoint_gradients is not offered")
        plain = copied(backbone).train()
        for tower, other in zip(probes_of(plain), probes_of(thrifty), strict=True):
            expected = gradient_of(tower, plain)
            gradient = gradient_of(other, thrifty)
            if gradient.shape != expected.shape or not torch.allclose(
                gradient, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
            ):
                fail(
                    f"{tower.name} gets other gradients after checkpoint_gradients; use"
                    " torch.utils.checkpoint with use_reentrant=False"
                )

    def test_freezing(self, backbone: Backbone) -> None:
        """Frozen, nothing changes and nothing needs a gradient; thawed, it learns again."""
        with thawed(backbone):
            before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
            backbone.requires_grad_(False)
            if held := [tower.name for tower in probes_of(backbone) if tower().requires_grad]:
                fail(
                    f"{held[0]} still needs a gradient after requires_grad_(False); its weights"
                    " must all be parameters of the backbone"
                )
            if moved := [
                name
                for name, tensor in backbone.state_dict().items()
                if not torch.equal(tensor, before[name])
            ]:
                fail(
                    f"{moved[0]} changes while the backbone only embeds, in eval mode; update"
                    " statistics in training mode only"
                )
            backbone.requires_grad_(True)
            if lost := [tower.name for tower in probes_of(backbone) if not tower().requires_grad]:
                fail(f"{lost[0]} needs no gradient after requires_grad_(True); it can't be thawed")
            if [block for block in backbone.blocks() if block not in set(backbone.modules())]:
                fail(
                    "blocks names a module that is no part of the backbone, so it could be neither"
                    " frozen nor trained by itself"
                )


def _check_levels_learn(backbone: Backbone) -> None:
    for levels in (
        LevelsProbe(backbone, pixels_of(backbone)),
        TextLevelsProbe(backbone, Tokenizer(backbone.text_spec)(samples.TEXTS)),
    ):
        with thawed(backbone):
            if levels.width and not levels().requires_grad:
                fail(
                    f"{levels.name} cuts the gradient: it runs under no_grad or inference_mode, or"
                    " detaches; what it reads would never learn"
                )


@contextmanager
def thawed(backbone: Backbone) -> Iterator[None]:
    """Thaw every parameter until the block ends, then freeze again what was frozen. Gradients are
    dropped before and after.
    """
    flags = [(parameter, parameter.requires_grad) for parameter in backbone.parameters()]
    backbone.requires_grad_(True)
    backbone.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        backbone.zero_grad(set_to_none=True)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def gradient_of(tower: Probe, backbone: Backbone) -> Tensor:
    """Return the gradient, (P,), of all parameters that a tower's embeddings reach. It is drawn
    from one seed, as a tower in training mode may have dropout.
    """
    with thawed(backbone), torch.random.fork_rng():
        torch.manual_seed(0)
        tower().square().sum().backward()
        return torch.cat(
            [
                parameter.grad.reshape(-1)
                for parameter in backbone.parameters()
                if parameter.grad is not None
            ]
        )
