"""How a backbone's towers are built, found by running them once: their blocks in order, and at
which block each weight is first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from mismatch.backbones.base import Backbone
from mismatch.runtime.tokenize import Tokenizer

__all__ = ["Tower", "find_towers"]

TEXT = "a red shirt"  # that the text tower is run with
STEM = -1  # the place of what comes before the first block


@dataclass(frozen=True)
class Tower:
    """One tower of a backbone."""

    name: str  # image or text
    blocks: list[nn.Module]  # D of them, from the input to the output
    # of every weight that the embedding depends on: 0..D of the block from whose start on it is
    # needed, STEM before
    places: dict[nn.Parameter, int]

    def from_block(self, block: int) -> set[nn.Parameter]:
        """Return the weights of this block and of all that comes after it; STEM: every weight."""
        return {parameter for parameter, place in self.places.items() if place >= block}

    @property
    def depth(self) -> int:
        """Return how many blocks there are."""
        return len(self.blocks)


def find_towers(backbone: Backbone) -> tuple[Tower, Tower]:
    """Return the image tower and the text tower. This costs one forward pass of one image and one
    text, and leaves the backbone as it was.
    """
    device = backbone.device
    pixels = torch.zeros(1, 3, backbone.image_spec.size, backbone.image_spec.size, device=device)
    tokens = Tokenizer(backbone.text_spec)([TEXT])
    ids, mask = (
        torch.from_numpy(array).to(device) for array in (tokens.input_ids, tokens.attention_mask)
    )
    with _differentiable(backbone), torch.enable_grad():
        return _trace("image", backbone, lambda: backbone.encode_image(pixels)), _trace(
            "text", backbone, lambda: backbone.encode_text(ids, mask)
        )


@contextmanager
def _differentiable(backbone: Backbone) -> Iterator[None]:
    """Put the backbone in eval mode, every weight asking for a gradient; then as it was before."""
    modes = {module: module.training for module in backbone.modules()}
    asked = {parameter: parameter.requires_grad for parameter in backbone.parameters()}
    try:
        backbone.eval().requires_grad_(True)
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, wanted in asked.items():
            parameter.requires_grad_(wanted)


def _trace(name: str, backbone: Backbone, run: Callable[[], Tensor]) -> Tower:
    # a block → the graph's nodes where its inputs enter, the main one first; in the order of the
    # calls
    doors: dict[nn.Module, list[Node]] = {}
    hooks = [
        block.register_forward_pre_hook(_door_of(doors), with_kwargs=True)
        for block in backbone.blocks()
    ]
    try:
        output = run()
    finally:
        for hook in hooks:
            hook.remove()
    root = output.grad_fn
    if root is None:
        return Tower(name, [], {})
    blocks = _innermost([block for block in doors if _is_passed(block, doors, root)])
    return Tower(name, blocks, _places(blocks, doors, root))


def _door_of(doors: dict[nn.Module, list[Node]]) -> Callable[..., tuple[Any, Any]]:
    """Return a hook that gives a block its inputs through nodes of their own."""

    def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        nodes: list[Node] = []

        def door(value: Any) -> Any:
            if not isinstance(value, Tensor) or not value.requires_grad:
                return value
            entered = value.view_as(value)
            if entered.grad_fn is not None:
                nodes.append(entered.grad_fn)
            return entered

        opened = tuple(map(door, args)), {key: door(value) for key, value in kwargs.items()}
        if nodes:
            doors[block] = nodes
        return opened

    return hook


def _is_passed(block: nn.Module, doors: dict[nn.Module, list[Node]], root: Node) -> bool:
    """Return whether every gradient on its way to what was computed before the block goes through
    it; a branch of two is passed by.
    """
    earlier = _reached(doors[block], ()) & {nodes[0] for nodes in doors.values()} - set(
        doors[block]
    )
    return not earlier & _reached([root], doors[block])


def _innermost(blocks: list[nn.Module]) -> list[nn.Module]:
    """Return the blocks without those that hold others: of stages, their blocks."""
    return [
        block
        for block in blocks
        if not any(other in blocks for other in block.modules() if other is not block)
    ]


def _places(
    blocks: list[nn.Module], doors: dict[nn.Module, list[Node]], root: Node
) -> dict[nn.Parameter, int]:
    """Walk from the embedding to the input, block by block; a weight belongs where it is met first,
    one of a block to that block.
    """
    places: dict[nn.Parameter, int] = {}
    for place, start in zip(
        range(len(blocks) - 1, STEM - 1, -1),
        [[root], *(doors[block] for block in reversed(blocks))],
        strict=True,
    ):
        stop = doors[blocks[place]] if place > STEM else []
        for node in _reached(start, stop):
            if (weight := getattr(node, "variable", None)) is not None:
                places.setdefault(weight, place)
    inside = {weight: place for place, block in enumerate(blocks) for weight in block.parameters()}
    return {weight: inside.get(weight, place) for weight, place in places.items()}


def _reached(start: Iterable[Node], stop: Iterable[Node]) -> set[Node]:
    """Return the nodes that a gradient visits from `start` on, not going through `stop`."""
    closed = set(stop)
    seen = set[Node]()
    todo = list(start)
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += [
                follower
                for follower, _ in node.next_functions
                if follower is not None and follower not in closed
            ]
    return seen
