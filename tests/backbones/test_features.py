"""What a head sees besides the embeddings: colour statistics against numpy, widths, refusals, and
that torch and onnxruntime agree on them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mismatch.backbones.features import (
    COLOUR_DIM,
    SHARE,
    check_features,
    colour_histogram,
    colour_statistics,
    encode_image,
    encode_text,
    feature_fields,
    feature_names,
    features_offered,
    foreground,
)
from mismatch.errors import InputError
from mismatch.export.graphs import write_image_encoder, write_text_encoder
from mismatch.runtime.onnx_graph import Graph
from mismatch.training.head import head_spec_for
from tests.support.backbones import LevelledBackbone


@pytest.fixture
def levelled() -> LevelledBackbone:
    torch.manual_seed(0)
    return LevelledBackbone().eval()


ALL = ("image-levels", "colour", "text-levels")


def test_means_and_spreads_are_numpys() -> None:
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found, a = colour_statistics(pixels).numpy(), pixels.numpy()
    assert found.shape == (2, COLOUR_DIM)
    middle = a[:, :, 16:48, 16:48]
    expected = np.concatenate(
        [a.mean((2, 3)), a.std((2, 3)), middle.mean((2, 3)), middle.std((2, 3))], axis=1
    )
    np.testing.assert_allclose(found[:, :12], expected, atol=2e-6)
    cells = a.reshape(2, 3, 4, 16, 4, 16).mean((3, 5))  # (2, 3, 4, 4)
    np.testing.assert_allclose(
        found[:, 18:66].reshape(2, 4, 4, 3), cells.transpose(0, 2, 3, 1), atol=1e-6
    )


def test_what_stands_out_from_the_border_is_the_article_and_not_its_background() -> None:
    pixels = torch.ones(1, 3, 56, 56)
    pixels[0, :, 20:30, 20:30] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    weights = foreground(pixels)
    assert float(weights.sum()) == pytest.approx(1.0)
    assert float(weights[0, 20:30, 20:30].sum()) == pytest.approx(
        100.1 / (100.1 + 1e-3 * (56 * 56 - 100)), abs=2e-4
    )
    shares = (colour_histogram(pixels, weights)[0].square() - SHARE).reshape(5, 5, 5)
    assert float(shares[4, 0, 0]) > 0.96  # red, though the image is 97 % white
    assert float(colour_histogram(pixels)[0].square().reshape(5, 5, 5)[4, 4, 4]) == pytest.approx(
        1 - 100 / 56**2 + SHARE, abs=1e-4
    )
    plain = foreground(torch.full((1, 3, 8, 8), 0.3))
    torch.testing.assert_close(plain, torch.full((1, 8, 8), 1 / 64))


@pytest.mark.parametrize(
    ("colour", "counted"),
    [
        ((0.0, 0.0, 0.0), {(0, 0, 0): 1.0}),
        ((1.0, 1.0, 1.0), {(4, 4, 4): 1.0}),
        ((0.5, 0.0, 1.0), {(2, 0, 4): 1.0}),
        # between two of 0, 0.25, 0.5, 0.75, 1
        ((0.125, 0.0, 0.0), {(0, 0, 0): 0.5, (1, 0, 0): 0.5}),
        ((0.3125, 1.0, 0.0), {(1, 4, 0): 0.75, (2, 4, 0): 0.25}),
    ],
)
def test_a_plain_image_counts_for_the_colours_next_to_it(
    colour: tuple[float, float, float], counted: dict[tuple[int, int, int], float]
) -> None:
    pixels = torch.tensor(colour)[None, :, None, None].expand(1, 3, 30, 30)
    shares = (colour_histogram(pixels)[0].square() - SHARE).reshape(5, 5, 5)
    expected = torch.zeros(5, 5, 5)
    for place, share in counted.items():
        expected[place] = share
    torch.testing.assert_close(shares, expected, atol=1e-5, rtol=0)


def test_shares_of_an_image_are_one_in_sum_whatever_its_side() -> None:
    for side in (1, 5, 56, 225):
        shares = colour_histogram(torch.rand(2, 3, side, side)).square() - SHARE
        torch.testing.assert_close(shares.sum(1), torch.ones(2), atol=1e-3, rtol=0)


def test_colours_are_of_the_image_and_not_of_what_the_tower_is_given(
    levelled: LevelledBackbone,
) -> None:
    pixels = torch.rand(2, 3, 8, 8)
    plain = encode_image(levelled, pixels, ("colour",))[:, 5:]
    other = LevelledBackbone.__new__(LevelledBackbone)
    other.__dict__ = dict(levelled.__dict__)
    other.image_spec = type(levelled.image_spec)(size=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    shifted = (pixels - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor(
        [0.2, 0.3, 0.4]
    )[:, None, None]
    torch.testing.assert_close(
        encode_image(other, shifted, ("colour",))[:, 5:], plain, atol=1e-3, rtol=0
    )


def test_a_row_is_the_embedding_and_then_each_feature_in_one_pass(
    levelled: LevelledBackbone,
) -> None:
    pixels, ids = torch.rand(2, 3, 8, 8), torch.tensor([[1, 2, 3], [4, 5, 0]])
    mask = (ids > 0).long()
    embedding, levels = levelled.encode_image_and_levels(pixels)
    levelled.runs = 0
    row = encode_image(levelled, pixels, ("levels", "colour"))
    assert (row.shape, levelled.runs) == ((2, 5 + 6 + COLOUR_DIM), 1)
    torch.testing.assert_close(row[:, :11], torch.cat([embedding, levels], 1))
    assert torch.equal(encode_image(levelled, pixels, ()), embedding)
    words = encode_text(levelled, ids, mask, ("levels",))
    torch.testing.assert_close(
        words, torch.cat([levelled.encode_text(ids, mask), levelled.text_levels(ids, mask)], 1)
    )
    assert encode_text(levelled, ids, mask, ()).shape == (2, 4)


def test_fields_names_and_widths_belong_together(levelled: LevelledBackbone) -> None:
    assert features_offered(levelled) == ALL
    spec = head_spec_for(levelled, "adapter", features=ALL)
    assert (spec.image_width, spec.text_width, feature_names(spec)) == (5 + 6 + COLOUR_DIM, 7, ALL)
    assert feature_names(head_spec_for(levelled, "adapter", features=("colour",))) == ("colour",)
    levelled.levels_dim = 0
    assert features_offered(levelled) == ("colour", "text-levels")
    with pytest.raises(
        InputError, match="offers no features image-levels; it has colour, text-levels"
    ):
        feature_fields(levelled, ALL)


def test_a_backbone_that_gives_other_widths_than_the_head_expects_is_refused(
    levelled: LevelledBackbone,
) -> None:
    spec = head_spec_for(levelled, "adapter", features=ALL)
    check_features(levelled, spec)
    levelled.text_levels_dim = 9
    with pytest.raises(
        InputError, match="the head expects text features of width 3, the backbone gives 9"
    ):
        check_features(levelled, spec)


def test_graphs_give_the_embedding_and_all_that_the_head_sees(
    levelled: LevelledBackbone, tmp_path: Path
) -> None:
    write_image_encoder(levelled, tmp_path / "image.onnx", ("levels", "colour"))
    write_text_encoder(levelled, tmp_path / "text.onnx", ("levels",))
    pixels = torch.rand(3, 3, 8, 8)
    ids = torch.tensor([[1, 2, 3, 4], [4, 5, 0, 0], [6, 0, 0, 0]])
    mask = (ids > 0).long()
    with torch.inference_mode():
        image, text = (
            encode_image(levelled, pixels, ("levels", "colour")).numpy(),
            encode_text(levelled, ids, mask, ("levels",)).numpy(),
        )
    for output, expected in (("image_features", image), ("image_embedding", image[:, :5])):
        np.testing.assert_allclose(
            Graph(tmp_path / "image.onnx", output=output)(pixel_values=pixels.numpy()),
            expected,
            atol=1e-5,
        )
    for output, expected in (("text_features", text), ("text_embedding", text[:, :4])):
        np.testing.assert_allclose(
            Graph(tmp_path / "text.onnx", output=output)(
                input_ids=ids.numpy(), attention_mask=mask.numpy()
            ),
            expected,
            atol=1e-5,
        )
