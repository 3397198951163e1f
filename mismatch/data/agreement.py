"""Which words of the lexicon can be exchanged in a text so that it stays English and says something
else: of the same number and part of speech, where the words around them allow it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mismatch.data.lexicon import Found, Lexicon, exchange

__all__ = ["edited", "exchangeable", "form", "is_catalogue", "neighbours"]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# words of the lexicon that can stand for one another; a word in none of these lines is left alone
FORMS: dict[str, tuple[str, ...]] = {
    "material": (
        (
            "cotton, leather, suede, denim, silk, satin, wool, cashmere, linen, polyester, nylon,"
            " wood, metal, plastic, glass, ceramic, porcelain, velvet, canvas, rubber, paper"
        ),
        "woollen, synthetic, wooden, metallic",
    ),
    "pattern": (
        "striped, checked, checkered, floral, printed, dotted, solid, plain",
        "stripes, checks, flowers, polka dots",
        "check, plaid, tartan, polka dot, camouflage",
    ),
    "count": ("two, three, four, five, six, seven, eight, nine, ten", "single, double, triple"),
    "size": ("small, mini, tiny, medium, large, big, oversized", "long, short"),
    "gender": (
        "man, woman, boy, girl, lady",
        "men, women, boys, girls, ladies",
        "men's, women's, boy's, girl's, mens, womens",
        "male, female",
    ),
}
FORM_OF = {
    (kind, word): f"{kind} {number}"
    for kind, lines in FORMS.items()
    for number, line in enumerate(lines)
    for word in line.split(", ")
}
# colours that are not also a thing, as an orange, a rose or a camel
PLAIN_COLOURS = _set(
    "black white off-white blue red green yellow pink purple brown beige grey gray maroon"
    " turquoise magenta burgundy crimson"
)
# words of captions; titles in a catalogue have none of them
GRAMMAR = _set(
    "a an the is are was were be being has have his her their its he she they it this that"
    " these those at on from to by while who which there and in of with for near next as into"
    " behind under over"
)
CAPTION = GRAMMAR - frozenset(["and", "in", "of", "with", "for", "by"])
ADJECTIVES = ("colour", "material", "pattern", "size")
OWNERS = frozenset(["a", "an", "his", "her", "their", "my", "your"])
# words that go with one gender
GENDERED = _set(
    "he she his her hers him himself herself wife husband mother father mom dad mum son"
    " daughter brother sister uncle aunt king queen prince princess bride groom beard bearded"
    " moustache mustache pregnant bra bikini guy guys gentleman gentlemen shirtless bald"
    " waitress waiter actress nun monk scout scouts baby"
)
MOST_ARTICLES = 0.4  # share of texts with an article of clothing, from which they are a catalogue
MOST_CAPTIONS = 0.2  # share of sentences, from which they are none
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
VOWEL = re.compile(r"[aeiou](?!ne\b)", re.IGNORECASE)  # "a one", but "an orange"
INDEFINITE = re.compile(r"\ban?(?=\s+$)", re.IGNORECASE)


def is_catalogue(texts: Sequence[str], terms: Sequence[Sequence[Found]]) -> bool:
    """Return whether the texts are titles of articles of clothing, and not sentences."""
    articles = sum(any(term.kind == "article" for term in row) for row in terms)
    captions = sum(not CAPTION.isdisjoint(_words(text)) for text in texts)
    return articles >= MOST_ARTICLES * len(texts) and captions <= MOST_CAPTIONS * len(texts)


def form(term: Found, lexicon: Lexicon) -> str | None:
    """Return what a word must be to stand for this one; None where none can.

    A user's own words are of one form: whether they agree, the words around them say.
    """
    if term.kind in lexicon.own_kinds:
        return term.kind
    if term.kind == "article":
        is_plural = term.word.endswith("s") and not term.word.endswith("ss")
        return f"article {'plural' if is_plural else 'singular'}"
    if term.kind == "colour":
        return "colour"
    return FORM_OF.get((term.kind, term.word))


def exchangeable(
    text: str, terms: Sequence[Found], lexicon: Lexicon, *, catalogue: bool
) -> list[Found]:
    """Return the words of the lexicon that can be exchanged in the text. `catalogue`: the text is
    one of many titles; else it may be a sentence, in which a top need be no garment.
    """
    words = _words(text)
    genders = sum(term.kind == "gender" for term in terms)
    usable = []
    for term in terms:
        if form(term, lexicon) is None:
            continue
        if term.kind in lexicon.own_kinds:
            usable.append(term)
        elif term.kind == "gender":
            if genders == 1 and GENDERED.isdisjoint(words):
                usable.append(term)
        elif catalogue or _is_meant(text, term, lexicon):
            usable.append(term)
    return usable


def edited(text: str, term: Found, word: str) -> str:
    """Put another word in place of `term`, with the article that it needs: a red, an orange."""
    changed = exchange(text, term, word)
    article_match = INDEFINITE.search(text[: term.start])
    if article_match is None:
        return changed
    article = "an" if VOWEL.match(word) else "a"
    if article_match[0].isupper() and (len(article_match[0]) > 1 or article == "a"):
        article = article.upper()
    elif article_match[0][0].isupper():
        article = article.capitalize()
    return changed[: article_match.start()] + article + changed[article_match.end() :]


def neighbours(text: str, term: Found) -> tuple[str, str]:
    """Return the words before and behind a word, without case; "" beyond a comma or an end."""
    before = re.search(rf"({WORD.pattern})\s+$", text[: term.start])
    behind = re.match(rf"\s+({WORD.pattern})", text[term.end :])
    return (before[1].lower() if before else "", behind[1].lower() if behind else "")


def _is_meant(text: str, term: Found, lexicon: Lexicon) -> bool:
    """Return whether the word says what its class is, in a sentence."""
    before, behind = neighbours(text, term)
    if term.kind == "article":
        attribute = lexicon.find(before)
        is_noun = before in OWNERS or (bool(attribute) and attribute[0].kind in ADJECTIVES)
        return is_noun and behind != "of" and (behind in GRAMMAR or behind in ("", "and"))
    if term.kind == "colour":
        pair = {before, behind} & {"and", "or"}
        return term.word in PLAIN_COLOURS and not pair and behind not in GRAMMAR
    # an attribute of the noun behind it
    return behind not in GRAMMAR | {"", "years", "year", "way", "thirds"}


def _words(text: str) -> set[str]:
    return {match.lower() for match in WORD.findall(text)}
