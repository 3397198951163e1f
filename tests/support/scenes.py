"""Scenes that an oracle knows, each with many true captions, in six languages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["LANGUAGES", "Caption", "SceneSet", "scenes"]


class Fact(NamedTuple):
    """What a caption says of one thing; -1 where it does not say it."""

    thing: int
    colour: int = -1
    place: int = -1


@dataclass(frozen=True)
class Caption:
    """A true text of a scene."""

    text: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Language:
    """How a language says it. A thing is `gender spelling|synonym classifier`."""

    things: tuple[str, ...]
    colours: tuple[str, ...]  # of both genders, parted by a slash where they differ
    places: tuple[str, ...]
    full: tuple[str, ...]  # templates with a colour and a place
    placed: tuple[str, ...]  # without a colour
    coloured: tuple[str, ...]  # without a place
    both: str  # of two captions of things

    def say(self, fact: Fact, random: np.random.Generator) -> str:
        """Return a sentence that says the fact."""
        templates = self.full
        if fact.colour < 0:
            templates = self.placed
        elif fact.place < 0:
            templates = self.coloured
        gender, spellings, classifier = self.things[fact.thing].split(" ")
        names = spellings.split("|")
        forms = self.colours[fact.colour].split("/")
        text = templates[int(random.integers(len(templates)))].format(
            thing=names[int(random.integers(len(names)))].replace("_", " "),
            colour=forms[-1] if gender == "f" else forms[0],
            place=self.places[fact.place],
            un="une" if gender == "f" else "un",
            c=classifier,
        )
        return text[:1].upper() + text[1:]


LANGUAGES = {
    "en": Language(
        (
            "m ball -",
            "m cup|mug -",
            "m car|automobile -",
            "m book -",
            "m chair|seat -",
            "m bucket|pail -",
            "m dog -",
            "m cat -",
        ),
        ("red", "blue", "green", "yellow", "black", "white"),
        ("on the table", "in the garden", "on the beach", "near the house", "in the street"),
        ("a {colour} {thing} {place}", "we see a {colour} {thing} {place}"),
        ("there is a {thing} {place}", "a {thing} lies {place}"),
        ("a photo of a {colour} {thing}", "one {colour} {thing} alone"),
        "{} and {}",
    ),
    "fr": Language(
        (
            "m ballon -",
            "f tasse|mug -",
            "f voiture|auto -",
            "m livre|bouquin -",
            "f chaise -",
            "m seau -",
            "m chien -",
            "m chat -",
        ),
        ("rouge", "bleu/bleue", "vert/verte", "jaune", "noir/noire", "blanc/blanche"),
        ("sur la table", "dans le jardin", "sur la plage", "devant la maison", "dans la rue"),
        ("{un} {thing} {colour} {place}", "on voit {un} {thing} {colour} {place}"),
        ("il y a {un} {thing} {place}", "{un} {thing} se trouve {place}"),
        ("photo d'{un} {thing} {colour}", "{un} {thing} {colour} tout seul"),
        "{} et {}",
    ),
    "ar": Language(
        (
            "f كرة -",
            "m كوب|فنجان -",
            "f سيارة|عربة -",
            "m كتاب -",
            "m كرسي|مقعد -",
            "m دلو -",
            "m كلب -",
            "f قطة -",
        ),
        ("أحمر/حمراء", "أزرق/زرقاء", "أخضر/خضراء", "أصفر/صفراء", "أسود/سوداء", "أبيض/بيضاء"),
        ("على الطاولة", "في الحديقة", "على الشاطئ", "أمام البيت", "في الشارع"),
        ("{thing} {colour} {place}", "نرى {thing} {colour} {place}"),
        ("هناك {thing} {place}", "يوجد {thing} {place}"),
        ("صورة {thing} {colour}", "{thing} {colour} فقط"),
        "{} و {}",
    ),
    "hi": Language(
        (
            "f गेंद -",
            "m प्याला|कप -",
            "f गाड़ी|कार -",
            "f किताब|पुस्तक -",
            "f कुर्सी -",
            "f बाल्टी -",
            "m कुत्ता -",
            "f बिल्ली -",
        ),
        ("लाल", "नीला/नीली", "हरा/हरी", "पीला/पीली", "काला/काली", "सफ़ेद"),
        ("मेज़ पर", "बगीचे में", "समुद्र तट पर", "घर के सामने", "सड़क पर"),
        ("{place} एक {colour} {thing}", "यहाँ {place} एक {colour} {thing} है"),
        ("{place} {thing} है", "{place} एक {thing} रखा है"),
        ("एक {colour} {thing} की तस्वीर", "सिर्फ़ एक {colour} {thing}"),
        "{} और {}",
    ),
    "zh": Language(
        (
            "m 球 个",
            "m 杯子|茶杯 个",
            "m 汽车|轿车 辆",
            "m 书|图书 本",
            "m 椅子 把",
            "m 水桶 个",
            "m 狗 只",
            "m 猫 只",
        ),
        ("红色", "蓝色", "绿色", "黄色", "黑色", "白色"),
        ("桌子上", "花园里", "海滩上", "房子前面", "街道上"),
        ("{place}有一{c}{colour}的{thing}", "可以看到{place}的一{c}{colour}{thing}"),
        ("一{c}{thing}在{place}", "{place}放着一{c}{thing}"),
        ("一张{colour}{thing}的照片", "只有一{c}{colour}的{thing}"),
        "{}和{}",
    ),
    "ja": Language(
        (
            "m ボール -",
            "m カップ|コップ -",
            "m 車|自動車 -",
            "m 本|書物 -",
            "m 椅子 -",
            "m バケツ -",
            "m 犬 -",
            "m 猫 -",
        ),
        ("赤い", "青い", "緑の", "黄色い", "黒い", "白い"),
        ("テーブルの上", "庭の中", "浜辺", "家の前", "道路"),
        ("{place}にある{colour}{thing}", "{place}に{colour}{thing}が見える"),
        ("{place}に{thing}があります", "{place}の{thing}"),
        ("{colour}{thing}の写真", "{colour}{thing}だけ"),
        "{}と{}",
    ),
}


@dataclass(frozen=True)
class SceneSet:
    """Rows of a set: an image's number and a caption each, and what the images show."""

    images: list[int]
    captions: list[Caption]
    shown: dict[int, tuple[Fact, ...]]  # by image, with all that can be said

    @property
    def texts(self) -> list[str]:
        """Return the rows' texts."""
        return [caption.text for caption in self.captions]

    def is_true(self, image: int, facts: tuple[Fact, ...]) -> bool:
        """Return whether a caption's facts hold in the image's scene."""
        return all(
            any(
                fact.thing == thing.thing
                and fact.colour in (-1, thing.colour)
                and fact.place in (-1, thing.place)
                for thing in self.shown[image]
            )
            for fact in facts
        )

    def facts_of(self) -> dict[str, tuple[Fact, ...]]:
        """Return what each text says."""
        return {caption.text: caption.facts for caption in self.captions}


def scenes(
    language: str, count: int, *, things: int = 1, captions: int = 1, seed: int = 0
) -> SceneSet:
    """Draw `count` scenes of so many things, each with so many captions that are true of it. A
    caption leaves things, colours and places out.
    """
    random = np.random.default_rng(seed)
    spoken = LANGUAGES[language]
    rows = SceneSet([], [], {})
    for image in range(count):
        chosen = random.permutation(len(spoken.things))[:things]
        place = int(random.integers(len(spoken.places)))
        shown = tuple(
            Fact(int(thing), int(random.integers(len(spoken.colours))), place) for thing in chosen
        )
        rows.shown[image] = shown
        for _ in range(captions):
            rows.images.append(image)
            rows.captions.append(_caption(spoken, shown, random))
    return rows


def _caption(spoken: Language, shown: tuple[Fact, ...], random: np.random.Generator) -> Caption:
    named = [shown[int(i)] for i in random.permutation(len(shown))]
    named = named[: int(random.integers(1, len(shown) + 1))]
    facts = []
    for fact in named:
        left_out = random.random()
        if left_out < 0.25:
            facts.append(fact._replace(colour=-1))
        elif left_out < 0.5:
            facts.append(fact._replace(place=-1))
        else:
            facts.append(fact)
    texts = [spoken.say(fact, random) for fact in facts]
    text = texts[0] if len(texts) == 1 else spoken.both.format(*texts)
    return Caption(text, tuple(facts))
