"""A card is mismatch's while nobody has changed it, and then its reader's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mismatch.runtime.card_file import (
    CARD,
    SCORE_END,
    SCORE_START,
    is_own_card,
    read_score_section,
    replace_score,
    write_card,
)

TEXT = f"# Größe\n\n{SCORE_START}- threshold 0.5\n\n{SCORE_END}\n## Limits\n\n- none\n"


def test_a_card_is_written_and_written_again(tmp_path: Path) -> None:
    assert write_card(tmp_path, TEXT)
    assert is_own_card(tmp_path / CARD)
    assert (tmp_path / CARD).read_text().startswith(TEXT)
    assert write_card(tmp_path, "other\n")
    assert (tmp_path / CARD).read_text().startswith("other\n")
    assert [path.name for path in tmp_path.iterdir()] == [CARD]


def test_the_section_on_the_score_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    write_card(tmp_path, TEXT)
    assert read_score_section(tmp_path) == "- threshold 0.5\n\n"
    assert replace_score(tmp_path, "- threshold 0.7\n\n")
    assert (tmp_path / CARD).read_text().startswith(TEXT.replace("0.5", "0.7"))
    assert is_own_card(tmp_path / CARD)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("none", "some"),
        lambda text: text + "More.\n",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("sha256 ", "sha256 0"),
        lambda text: text.partition("<!-- mismatch: sha256")[0],
        lambda _text: "",
        lambda _text: "# My own page\n",
    ],
)
def test_what_somebody_has_changed_is_never_written_over(tmp_path: Path, change: object) -> None:
    assert callable(change)
    write_card(tmp_path, TEXT)
    path = tmp_path / CARD
    changed = change(path.read_bytes().decode())
    path.write_bytes(changed.encode())
    assert not is_own_card(path)
    assert read_score_section(tmp_path) is None
    assert not replace_score(tmp_path, "- threshold 0.7\n\n")
    assert not write_card(tmp_path, TEXT)
    assert path.read_bytes() == changed.encode()


def test_no_card_is_begun_by_a_new_score(tmp_path: Path) -> None:
    assert not replace_score(tmp_path, "- threshold 0.7\n\n")
    assert list(tmp_path.iterdir()) == []


def test_a_card_without_the_section_stays(tmp_path: Path) -> None:
    write_card(tmp_path, "# No score\n")
    assert not replace_score(tmp_path, "- threshold 0.7\n\n")


def test_a_link_a_pipe_a_folder_and_a_huge_file_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    write_card(tmp_path / "one", TEXT)
    places = [tmp_path / name for name in ("link", "dangling", "pipe", "folder", "huge", "bytes")]
    for place in places:
        place.mkdir()
    (places[0] / CARD).symlink_to(tmp_path / "one" / CARD)
    (places[1] / CARD).symlink_to(tmp_path / "nothing")
    os.mkfifo(places[2] / CARD)
    (places[3] / CARD).mkdir()
    (places[4] / CARD).write_bytes(b" " * (2**20 + 1))
    (places[5] / CARD).write_bytes(b"\xff\xfe")
    for place in places:
        assert not is_own_card(place / CARD), place
        assert not replace_score(place, ""), place
        assert not write_card(place, TEXT), place
    assert (tmp_path / "one" / CARD).read_text().startswith(TEXT)
    assert not (tmp_path / "nothing").exists()


def test_another_name_is_no_card(tmp_path: Path) -> None:
    write_card(tmp_path, TEXT)
    (tmp_path / CARD).rename(tmp_path / "notes.md")
    assert not is_own_card(tmp_path / "notes.md")
