"""mismatch.data.dataset_card: configs that README.md declares."""

from __future__ import annotations

import pytest

from mismatch.data.dataset_card import Subset, card_subsets

AS_DATASETS = """---
license: mit
dataset_info:
  features:
  - name: image
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path:
    - "data/test-*"
    - more/test.parquet
tags:
- a
---
# Toys
"""
ONE = [
    Subset(
        "default", True, {"train": ["data/train-*"], "test": ["data/test-*", "more/test.parquet"]}
    )
]


def card(*lines: str) -> str:
    return "\n".join(["---", *lines, "---", "# Toys"])


def test_configs_as_datasets_writes_them() -> None:
    assert card_subsets(AS_DATASETS) == ONE
    assert card_subsets(AS_DATASETS.replace("\n", "\r\n")) == ONE


def test_several_subsets_and_the_default_one() -> None:
    text = card(
        "configs:",
        "  - config_name: en",
        "    data_files: 'en/*.csv'",
        "  - config_name: fr",
        "    default: true",
        '    data_files: "**/fr.csv"',
    )
    assert card_subsets(text) == [
        Subset("en", False, {"train": ["en/*.csv"]}),
        Subset("fr", True, {"train": ["**/fr.csv"]}),
    ]


@pytest.mark.parametrize(
    "text", ["", "# Toys", card("license: mit"), "---\n", "text\n---\nconfigs:"]
)
def test_a_card_without_configs(text: str) -> None:
    assert card_subsets(text) == []


@pytest.mark.parametrize(
    "lines",
    [
        ["configs: [{config_name: a}]"],
        ["configs:", "- config_name: a", "  data_dir: en"],
        ["configs:", "- config_name: a", "  data_files: &x a.csv"],
        ["configs:", "- config_name: a", "  data_files: *x"],
        ["configs:", "- config_name: a", "  data_files: !!python/object:os.system"],
        ["configs:", "- config_name: a", "  data_files:"],
        ["configs:", "- config_name: a", "\tdata_files: a.csv"],
        ["configs:", "- - - - - - - - - - - a"],
        ["configs:", "-", "  config_name: a"],
        ["configs:", "- config_name: a", "  data_files:", "  - split: train"],
        ["configs:", "  config_name: a"],
        ["configs:", "- config_name: a", "  config_name: b", "  data_files: a.csv"],
    ],
)
def test_other_yaml_is_not_read(lines: list[str]) -> None:
    assert card_subsets(card(*lines)) is None
