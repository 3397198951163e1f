"""How likely a text is true of another text's image, in many languages."""

from __future__ import annotations

import pytest

from mismatch.data.lexicon import Lexicon
from mismatch.data.text_fit import TextFit, read_text

FILLER = {
    "en": ["a dog runs on grass", "a train at a station", "some fruit lies in a bowl"],
    "fr": ["un chien court dans l'herbe", "un train en gare", "des fruits dans un bol"],
    "zh": ["一只狗在草地上跑", "火车停在车站", "碗里有水果"],
    "ja": ["犬が草の上を走る", "駅の電車", "果物が皿にある"],
    "ar": ["كلب يجري على العشب", "قطار في المحطة", "فواكه في الطبق"],
    "hi": ["कुत्ता घास पर दौड़ता है", "स्टेशन पर ट्रेन", "कटोरे में फल"],
}
# of each language: four texts of one scene, as several people say it
GOLF = {
    "en": ["a woman plays golf", "a lady plays golf outside", "woman at golf", "golf played"],
    "fr": ["une femme joue au golf", "la dame joue au golf", "femme au golf", "jouer au golf"],
    "zh": ["一个女人在打高尔夫球", "女士打高尔夫", "女人正在打高尔夫", "一位女子打着高尔夫球"],
    "ja": ["女性がゴルフをしている", "女の人がゴルフをする", "ゴルフをする女性", "ゴルフの女性"],
    "ar": ["امرأة تلعب الغولف", "سيدة تلعب الغولف", "المرأة تلعب غولف", "لعب الغولف"],
    "hi": ["एक महिला गोल्फ़ खेलती है", "महिला गोल्फ़ खेल रही है", "औरत गोल्फ़ खेलती", "गोल्फ़ खेल"],
}


@pytest.mark.parametrize("language", GOLF)
def test_texts_that_say_the_same_fit(language: str) -> None:
    texts = [*GOLF[language], *(FILLER[language] * 40)]
    fit = TextFit(texts, range(len(texts)), Lexicon())
    for row in range(4):
        for other in range(4):
            if other != row:
                assert fit.likelihood(row, fit.texts[other]) > 0.05, (texts[row], texts[other])
        for other in (4, 5, 6):
            assert fit.likelihood(row, fit.texts[other]) < fit.likelihood(row, fit.texts[row])


def fit_of(texts: list[str], images: list[int] | None = None) -> TextFit:
    return TextFit(texts, images or range(len(texts)), Lexicon())


def test_common_words_may_be_true_of_any_image() -> None:
    texts = [f"a screenshot of a game, level {n}" for n in range(50)]
    texts += [f"a player with a sword {n}" for n in range(50)]
    fit = fit_of(texts)
    assert fit.likelihood(0, fit.texts[60]) > 0.05


@pytest.mark.parametrize(
    ("own", "other", "fits"),
    [
        ("a red ball on grass", "a blue ball on grass", False),
        ("a red ball on grass", "a crimson ball on grass", True),
        ("a red ball on grass", "a red ball", True),
        ("Alpha Men Red Shirt", "Beta Men Red Shirt", True),
        ("Alpha Men Red Shirt", "Alpha Women Red Shirt", False),
    ],
)
def test_attributes_of_the_lexicon(own: str, other: str, fits: bool) -> None:
    fit = fit_of([own, other, *(f"something else {number}" for number in range(20))])
    assert (fit.likelihood(0, fit.texts[1]) > 0.05) is fits


def test_texts_of_one_image_speak_together() -> None:
    """Both colours are true of images that show two things."""
    texts = ["a red ball", "a blue cup"] * 40
    one_thing = fit_of(texts)
    two_things = fit_of(texts, [number // 2 for number in range(80)])
    text = read_text("a blue ball", Lexicon())
    assert one_thing.likelihood(0, text) < 0.05 < two_things.likelihood(0, text)


@pytest.mark.parametrize(
    ("things", "colours"),
    [
        (["球", "书", "猫"], ["红色", "蓝色", "绿色", "黑色"]),
        (["ボール", "本", "猫"], ["赤い", "青い", "黒い", "白い"]),
        (["गेंद", "किताब", "कुर्सी"], ["लाल", "नीली", "हरी", "काली"]),
        (["robe", "jupe", "veste"], ["rouge", "verte", "noire", "bleue"]),
        (["كرة", "سيارة", "قطة"], ["حمراء", "زرقاء", "خضراء", "سوداء"]),
    ],
)
def test_words_in_one_place_deny_one_another(things: list[str], colours: list[str]) -> None:
    """Where each text names one thing and one colour, other ones are not shown."""
    blank = "" if things[0] in "球ボール" else " "
    texts = [f"{colour}{blank}{thing}" for thing in things for colour in colours] * 12
    fit = fit_of(texts)
    first = f"{colours[0]}{blank}{things[0]}"
    other = f"{colours[1]}{blank}{things[1]}"
    assert fit.likelihood(texts.index(first), read_text(other, Lexicon())) < 0.05
    assert fit.likelihood(texts.index(first), read_text(first, Lexicon())) == 1


def test_an_edit_that_says_the_same_is_none() -> None:
    fit = fit_of(["a red ball", "a blue ball", "a green cup"] * 5)
    assert fit.likelihood_of_edit(0, read_text("a crimson ball", Lexicon())) == 1
    assert fit.likelihood_of_edit(0, read_text("a blue ball", Lexicon())) < 0.05
