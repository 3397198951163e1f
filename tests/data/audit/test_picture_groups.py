"""mismatch.data.audit.picture_groups: near-duplicates within and between files, with their texts."""

from __future__ import annotations

import pytest

from mismatch.data.audit.likeness import TextLikeness
from mismatch.data.audit.picture_groups import (
    PictureGroup,
    group_pictures,
    leaking_images,
    near_duplicates,
    repeated_pictures,
    same_pictures,
    spread,
)
from mismatch.data.audit.places import REACH, Place
from mismatch.data.near_duplicates import Fingerprint

UNLIKE = {
    "en": ("red leather bag", "grilled salmon with rice"),
    "fr": ("sac en cuir rouge", "saumon grillé au riz"),
    "zh": ("红色真皮手提包", "香煎三文鱼配米饭"),
    "ja": ("赤い革のバッグ", "鮭と米飯"),
    "ar": ("حقيبة جلدية حمراء", "سلمون مشوي مع أرز"),
    "hi": ("लाल चमड़े का बैग", "भुना सामन और चावल"),
}


def place(line: int, text: str, label: int | None = None) -> Place:
    return Place(line, f"{line}.jpg", label, (*[""] * REACH, text, *[""] * REACH))


def findings(
    groups: list[tuple[list[str], list[Place]]], pictures: int = 100
) -> list[tuple[int, list[int]]]:
    places = {row.line: row for _, rows in groups for row in rows}
    likeness = TextLikeness(row.text for row in places.values())
    pictured = [PictureGroup(images, [row.line for row in rows]) for images, rows in groups]
    return [
        (finding.count, finding.lines)
        for finding in same_pictures(pictured, places, likeness, pictures)
    ]


def test_near_duplicates_within_and_between_files() -> None:
    one, two, three = (
        Fingerprint(value, bytes([value % 251]) * 192)
        for value in (0, 2**64 - 1, 0x5555555555555555)
    )
    prints = {"a": one, "a2": one, "b": two, "c": three, "c2": three}
    files = [{"a": [2, 3], "a2": [4], "b": [5], "c": [6]}, {"b": [2], "c2": [3, 4]}]
    grouped = group_pictures(files, prints)
    places = {line: place(line, f"text {line}") for line in range(2, 7)}
    [finding] = near_duplicates(files[0], grouped[0], places)
    assert (finding.kind, finding.count, finding.lines) == ("near-duplicates", 1, [4])
    assert finding.message == "1 image is a near-duplicate of another one, as in line 4"
    assert [[(row.line, row.text) for row in group] for group in finding.groups] == [
        [(2, "text 2"), (3, "text 3"), (4, "text 4")]
    ]
    assert list(near_duplicates(files[1], grouped[1], places)) == []
    assert leaking_images(grouped) == {(0, 1): {"c"}}, "b is the same file in both"


def test_images_without_a_fingerprint_stand_alone() -> None:
    grouped = group_pictures([{"a": [2]}, {"a": [2], "b": [3]}], {})
    assert [sorted(members.values()) for members in grouped] == [[["a"]], [["a"], ["b"]]]
    assert leaking_images(grouped) == {}
    assert group_pictures([{}], {}) == [{}]


def test_copies_come_first_and_long_groups_are_cut() -> None:
    images = {"a": list(range(2, 40)), "b": [50], "c": [51], "d": [60]}
    first, second = repeated_pictures(images, {0: ["a"], 1: ["b", "c"], 2: ["d"]})
    assert (first.images, first.lines, first.is_copied) == (["b", "c"], [50, 51], True)
    assert (second.images, second.lines) == (["a"], list(range(2, 10)))


@pytest.mark.parametrize("language", UNLIKE)
@pytest.mark.parametrize("label", [None, 1])
def test_one_picture_with_texts_of_two_things(language: str, label: int | None) -> None:
    first, second = UNLIKE[language]
    rows = [place(4, first, label), place(9, second, label)]
    assert findings([(["a", "b"], rows)]) == [(2, [4, 9])]
    assert findings([(["a"], rows)]) == [(2, [4, 9])]
    same = [place(4, first, label), place(9, f"{first} {second[:3]}", label)]
    assert findings([(["a", "b"], same)]) == []


def test_a_mismatch_may_have_any_text() -> None:
    rows = [place(4, "red leather bag", 1), place(9, "grilled salmon with rice", 0)]
    assert findings([(["a"], rows)]) == []


def test_a_stock_photo_is_shown_with_all_its_texts() -> None:
    dishes = ["Lasagne", "Chili con carne", "Pea soup", "Ratatouille", "Goulash"]
    rows = [place(line, text) for line, text in enumerate(dishes, start=2)]
    assert findings([(["a.jpg", "b.jpg"], rows)]) == [(5, [2, 3, 4, 5, 6])]


def test_sets_with_several_captions_for_each_picture_are_no_doubt() -> None:
    captions = ["a dog runs", "brown animal outside", "pet on grass"]
    groups = [
        ([f"{number}.jpg"], [place(10 * number + at, text) for at, text in enumerate(captions)])
        for number in range(1, 21)
    ]
    assert findings(groups, pictures=20) == []
    assert findings(groups, pictures=2000) != []
    copied = (["x", "y"], [place(500, captions[0]), place(501, "red leather bag")])
    assert findings([*groups, copied], pictures=21) == [(2, [500, 501])]


def test_a_large_file_is_looked_at_in_all_its_parts() -> None:
    groups = [PictureGroup([f"{at}"], [at, at + 1]) for at in range(5_500)]
    chosen = spread(groups)
    assert len(chosen) <= 1_000
    assert chosen[0].lines[0] == 0
    assert chosen[-1].lines[0] > 5_400
    assert spread(groups[:7]) == groups[:7]
    assert spread([]) == []
