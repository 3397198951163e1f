"""Words that can be exchanged: colours, materials, patterns, counts, sizes, gender and kinds of
article, in a text and with its spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import regex

from mismatch.errors import InputError
from mismatch.words import is_unspaced

__all__ = ["BUILT_IN", "Found", "Lexicon", "exchange"]

# Per class, families of words parted by bars: words of one family may name the same thing, so only
# words of other families are alternatives.
BUILT_IN: dict[str, str] = {
    "colour": (
        "black, charcoal | white, off white, ivory, cream | grey, gray, silver, steel | blue, navy,"
        " navy blue, turquoise, teal, sky blue | red, maroon, burgundy, crimson | green, olive,"
        " mint, khaki | yellow, mustard, gold, golden | orange, peach, coral, rust | pink, magenta,"
        " rose, fuchsia | purple, violet, lavender, mauve | brown, tan, beige, bronze, copper,"
        " coffee, camel"
    ),
    "material": (
        "cotton | leather, suede | denim | silk, satin | wool, woollen, cashmere | linen |"
        " polyester, nylon, synthetic | wood, wooden | metal, metallic | plastic | glass | ceramic,"
        " porcelain | velvet | canvas | rubber | paper"
    ),
    "pattern": (
        "striped, stripes | checked, check, checks, checkered, plaid, tartan | floral, flowers |"
        " printed, print | solid, plain | dotted, polka dot, polka dots | camouflage"
    ),
    "count": (
        "one, single | two, double, pair | three, triple | four | five | six | seven | eight | nine"
        " | ten"
    ),
    "size": "small, mini, tiny | medium | large, big, oversized | long | short",
    "gender": (
        "men, men's, mens, man, male, boys, boy, boy's | women, women's, womens, woman, female,"
        " girls, girl, girl's, ladies, lady"
    ),
    "article": (
        "shirt, shirts, t-shirt, t-shirts, tshirt, tshirts, top, tops, blouse, tunic, tunics,"
        " kurta, kurtas, kurti, kurtis | trousers, pants, jeans, track pants, leggings, shorts |"
        " skirt, skirts | dress, dresses | jacket, jackets, coat, blazer | sweater, sweaters |"
        " sweatshirt, sweatshirts, cardigan | shoe, shoes, sneakers, boots, heels, flats | sandal,"
        " sandals, flip flops | watch, watches | bag, bags, handbag, handbags, backpack, backpacks,"
        " clutch, clutches | wallet, wallets | belt, belts | tie, ties | cap, caps, hat, hats |"
        " scarf, scarves, stole, stoles | sock, socks | sunglasses | earrings | necklace, pendant |"
        " ring | bracelet, bangle | lipstick | perfume"
    ),
}


class Found(NamedTuple):
    """A word of the lexicon in a text."""

    start: int  # characters
    end: int
    kind: str  # colour, material, …
    family: int  # within its kind
    word: str  # as the lexicon has it


class Lexicon:
    """Finds exchangeable words, and exchanges them."""

    def __init__(self, more: Mapping[str, Sequence[str]] | None = None) -> None:
        """Take `more`: classes of one's own, each a list of families as `"navy, blue"`; a class
        that is built in is replaced by it. InputError for anything else.
        """
        self.own_kinds = frozenset(more or {})  # classes that the user wrote
        self.families: dict[str, list[list[str]]] = {
            kind: [_words(part) for part in families.split("|")]
            for kind, families in BUILT_IN.items()
        }
        for kind, families in (more or {}).items():
            if (
                not isinstance(families, (list, tuple))
                or not all(isinstance(family, str) and _words(family) for family in families)
                or len(families) < 2
            ):
                raise InputError(
                    f"the class {kind!r} of the lexicon is no list of two or more families, as"
                    ' ["blue, navy", "red"]'
                )
            self.families[kind] = [_words(family) for family in families]
        self._classes: dict[str, tuple[str, int]] = {}
        for kind, parts in self.families.items():
            for number, family in enumerate(parts):
                for word in family:
                    self._classes.setdefault(word, (kind, number))
        # "navy blue" before "navy"
        words = sorted(self._classes, key=lambda word: (-len(word), word))
        self._pattern = re.compile(_any_of(words), re.IGNORECASE)

    def find(self, text: str) -> list[Found]:
        """Find the words of the lexicon, whole ones only, from left to right; where two overlap,
        the longer.
        """
        terms = []
        for match in self._pattern.finditer(text):
            word = match[0].lower()
            if word not in self._classes:
                word = word.replace("-", " ")
            if word in self._classes:
                terms.append(Found(match.start(), match.end(), *self._classes[word], word))
        return terms

    def alternatives(self, term: Found) -> Iterator[str]:
        """Yield words of the same class that name something else, one family after the other."""
        for number, family in enumerate(self.families[term.kind]):
            if number != term.family:
                yield from family

    def family_of(self, term: Found) -> list[str]:
        """Return the words that may name the same thing."""
        return self.families[term.kind][term.family]


def exchange(text: str, term: Found, word: str) -> str:
    """Put another word in place of `term`, spelt as that was: Red → Blue, RED → BLUE."""
    old = text[term.start : term.end]
    if old.isupper() and len(old) > 1:
        word = word.upper()
    elif old[:1].isupper():
        word = word.title() if " " in word else word[:1].upper() + word[1:]
    return text[: term.start] + word + text[term.end :]


def _any_of(words: Sequence[str]) -> str:
    """Return a pattern of the words, the first that fits; none is a part of a longer word, where
    its script has blanks.
    """
    spaced = []
    patterns = []
    for word in words:
        pattern = re.escape(word).replace(r"\ ", "[ -]")
        letters = regex.findall(r"\X", word)
        before, behind = (is_unspaced(letter) for letter in (letters[0], letters[-1]))
        if before or behind:
            start = "" if before else r"(?<![\w-])"
            end = "" if behind else r"(?![\w-])"
            patterns.append(f"{start}{pattern}{end}")
        else:
            spaced.append(pattern)
    if spaced:
        patterns.append(rf"(?<![\w-])(?:{'|'.join(spaced)})(?![\w-])")
    return "|".join(patterns)


def _words(family: str) -> list[str]:
    return [word.strip().lower() for word in family.split(",") if word.strip()]
