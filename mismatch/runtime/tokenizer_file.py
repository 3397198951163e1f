"""Untrusted tokenizer.json files, looked at before the tokenizers library reads texts by them: what
grows them without end, or searches them without end.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from mismatch.errors import CheckpointError
from mismatch.io.reading import parse_json

__all__ = ["check_tokenizer_file", "unknown_token"]

MAX_STEPS = 64  # normalizers and pre-tokenizers together; the longest in use have a dozen
DEEPEST = 16  # sequences within sequences
MAX_GROWTH = 1_000  # how many times as long all replacements together may make a text
LONGEST_PATTERN = 5_000  # characters of a regular expression; the longest in use have some hundred
REPETITION = re.compile(r"[*+]|\{(\d*)(,?)(\d*)\}")
MAX_REPETITIONS = 2  # without bound, at the end of an alternative; GPT-4's and Qwen's have as many
CHOICE = 0.3  # of a repetition: a group with alternatives
# a range of times has as much as its number of choices has digits
RANGE = re.compile(r"\?|\{(?P<least>\d*),(?P<most>\d+)\}")
QUANTIFIER = re.compile(r"(?:[*+?]|\{\d*,?\d*\})[?+]?")
GROUP_HEAD = re.compile(r"\((?:\?(?:[:=!>]|<[=!]|[a-zA-Z-]*[:)]?|<\w+>))?")
OPTIONAL = re.compile(r"[*?]|\{0?,")
MAX_PREPENDED = 16  # letters that stand before each text, word or piece; in use are one or two
AFFIXES = ("continuing_subword_prefix", "end_of_word_suffix")
COMPATIBILITY = ("NFKC", "NFKD")
MAX_COMPATIBLE = 18  # letters that these make of one, U+FDFA
MAX_WORD = 1_000  # letters of a word that WordPiece looks for pieces in; the cost grows by its cube
MAX_PIECE = 256  # letters of a piece of Unigram's; the cost grows by its square
FEW = 8  # times; a group in a group that repeats at most so often is no danger
BACK_REFERENCE = re.compile(r"\\[1-9]|\\[kg][<']")  # \g calls a group again, itself too


def check_tokenizer_file(text: str) -> dict[str, Any]:
    """Return what it says; CheckpointError where a tokenizer.json is no JSON object, or describes
    steps whose cost for a short text has no bound.
    """
    try:
        data = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"the model's tokenizer.json can't be read ({error}); save the model again"
        ) from error
    if not isinstance(data, dict):
        raise CheckpointError(
            "the model's tokenizer.json can't be read (it is no JSON object); save the model again"
        )
    steps = [step for name in ("normalizer", "pre_tokenizer") for step in _steps(data.get(name), 0)]
    if len(steps) > MAX_STEPS:
        raise _unbounded(f"it has {len(steps)} steps before its model, more than {MAX_STEPS}")
    for step in steps:
        pattern = step.get("pattern")
        if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
            _check_pattern(pattern["Regex"])
    growth = _growth_of_all(steps)
    if growth > MAX_GROWTH:
        raise _unbounded(f"its replacements make a text up to {growth:.3g} times as long")
    _check_model(data.get("model"))
    return data


def _check_model(model: Any) -> None:
    """Refuse a model that takes words of any length apart by trying all their pieces."""
    if not isinstance(model, dict):
        return
    for name in AFFIXES:
        affix = model.get(name)
        if isinstance(affix, str) and len(affix) > MAX_PREPENDED:
            raise _unbounded(f"its {name} has {len(affix):,} letters")
    letters = model.get("max_input_chars_per_word", 0)
    if isinstance(letters, int) and letters > MAX_WORD:
        raise _unbounded(f"it takes words of up to {letters:,} letters apart")
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, list):  # Unigram's pieces and their scores
        longest = max((len(piece[0]) for piece in vocabulary if _is_piece(piece)), default=0)
        if longest > MAX_PIECE:
            raise _unbounded(f"it looks for pieces of up to {longest:,} letters")


def _is_piece(entry: Any) -> bool:
    return isinstance(entry, list) and bool(entry) and isinstance(entry[0], str)


def unknown_token(data: dict[str, Any]) -> str | None:
    """Return what stands for a word or letter that a tokenizer.json doesn't know; None where it
    names nothing.
    """
    model = data.get("model")
    if not isinstance(model, dict):
        return None
    token = model.get("unk_token")
    vocabulary = model.get("vocab")
    number = model.get("unk_id")
    # pieces and their scores
    if isinstance(vocabulary, list) and isinstance(number, int) and 0 <= number < len(vocabulary):
        token = vocabulary[number][0]
    return token if isinstance(token, str) else None


def _unbounded(why: str) -> CheckpointError:
    return CheckpointError(
        f"the model's tokenizer.json can't be used: {why}, so that short texts could take hours;"
        " save the model again"
    )


def _steps(step: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Yield a normalizer or pre-tokenizer, or those of a sequence, one by one."""
    if not isinstance(step, dict):
        return
    if depth > DEEPEST:
        raise _unbounded("its sequences lie too deep in each other")
    yield step
    for name in ("normalizers", "pretokenizers"):
        parts = step.get(name)
        if isinstance(parts, list):
            for part in parts:
                yield from _steps(part, depth + 1)


def _growth_of_all(steps: list[dict[str, Any]]) -> float:
    """Return how many times as long all steps make a text, at most. A Unicode form takes apart what
    a replacement before it has put in; the text's own letters it takes apart once.
    """
    growth = 1.0
    is_new = False  # whether there may be letters that no form has seen
    for step in steps:
        growth *= _growth(step, step.get("pattern"))
        if step.get("type") in COMPATIBILITY:
            growth *= MAX_COMPATIBLE if is_new else 1
            is_new = False
        elif step.get("type") == "Replace" and not str(step.get("content")).isascii():
            is_new = True
    return growth


def _growth(step: dict[str, Any], pattern: Any) -> float:
    """Return how many times as long a step makes a text, at most."""
    if step.get("type") == "ByteLevel":
        return 2.0  # a letter for each byte, and its letters have two
    prepended = step.get("prepend")
    if isinstance(prepended, str) and len(prepended) > MAX_PREPENDED:
        raise _unbounded(f"it puts {len(prepended):,} letters before each text")
    table = step.get("precompiled_charsmap")
    if isinstance(table, str):
        return _growth_of_table(table)
    content = step.get("content")
    if (
        step.get("type") != "Replace"
        or not isinstance(content, str)
        or not isinstance(pattern, dict)
    ):
        return 1.0
    literal = pattern.get("String")
    if isinstance(literal, str) and literal:
        return max(1.0, len(content) / len(literal))
    return 1.0 + len(content)  # an expression may match between any two letters


def _growth_of_table(table: str) -> float:
    """Return the bytes of the longest replacement in a SentencePiece table: base64 of a trie, its
    size before it, and texts that each end with NUL.
    """
    try:
        data = base64.b64decode(table, validate=True)
    except (binascii.Error, ValueError):
        return 1.0  # for the library to say
    trie = int.from_bytes(data[:4], "little")
    return float(max(map(len, data[4 + trie :].split(b"\0"))) or 1)


def _check_pattern(pattern: str) -> None:
    """Refuse what makes a search by trying back and forth exponential: repetition of what is
    repeated, or of one of several; references back.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise _unbounded(f"it has a pattern of {len(pattern):,} characters")
    if BACK_REFERENCE.search(pattern):
        raise _unbounded(f"its pattern {pattern[:80]!r} refers back to a group")
    if _repeats_repetition(pattern):
        raise _unbounded(f"its pattern {pattern[:80]!r} repeats what may itself repeat")
    if _may_search_in_vain(pattern):
        raise _unbounded(f"its pattern {pattern[:80]!r} shares a text among several repetitions")


def _repeats_repetition(pattern: str) -> bool:
    """Return whether a group that holds a repetition, or alternatives, is itself repeated: of a
    range of times, any repetition; of anything else, one without bound.
    """
    # whether repeating each group around here without bound is dangerous, and at all
    open_groups: list[list[bool]] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if char == "\\":
            position += 2
            continue
        if char == "[":
            position = _end_of_class(pattern, position)
        elif char == "(":
            open_groups.append([False, False])
        elif char == ")" and open_groups:
            without_bound, at_all = open_groups.pop()
            repeated = _is_unbounded(pattern, position + 1)
            is_several = repeated or _most_times(pattern, position + 1) > 1
            if (without_bound and repeated) or (at_all and is_several):
                return True
            if open_groups:
                open_groups[-1][0] |= without_bound or repeated
                open_groups[-1][1] |= at_all or is_several
        elif open_groups and (char == "|" or _is_unbounded(pattern, position)):
            open_groups[-1][0] = True
        if open_groups and char != ")" and _is_wide(pattern, position):
            open_groups[-1][1] = True
        position += 1
    return False


def _may_search_in_vain(pattern: str) -> bool:
    """Return whether something that can fail stands behind two repetitions without bound, in one
    alternative: all ways to share a text between these are then tried, from each of its letters.
    A third repetition counts as that too.
    """
    open_groups: list[_Group] = []
    group = _Group(0, 0)
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if char == "(":
            open_groups.append(group)
            # what may be left out need not succeed
            is_optional = OPTIONAL.match(pattern, _end_of_group(pattern, position)) is not None
            group = _Group.within(0 if is_optional else group.count)
            position = GROUP_HEAD.match(pattern, position).end()  # type: ignore[union-attr]
            continue
        if char == "|":
            group.next_alternative()
            position += 1
            continue
        before = group.count
        if char == ")" and open_groups:
            inside = group.most() - group.begun + CHOICE * group.has_alternatives
            within = group.begun + inside * max(1, _most_times(pattern, position + 1))
            before = group.begun
            group = open_groups.pop()
            group.count = max(group.count, within)
        elif char == "[":
            position = _end_of_class(pattern, position)
        elif char == "\\":
            position += 1
        position += 1
        repeats = _is_unbounded(pattern, position)
        is_optional = OPTIONAL.match(pattern, position) is not None
        if before >= MAX_REPETITIONS and (repeats or not is_optional):
            return True
        group.count += 1 if repeats else math.log10(_choices(pattern, position))
        quantifier = QUANTIFIER.match(pattern, position)
        if quantifier is not None:
            position = quantifier.end()
    return False


@dataclass
class _Group:
    """Repetitions without bound before what is read of a group, those before the group included;
    each choice between two counts as part of one.
    """

    begun: float  # before the group
    count: float  # in its present alternative
    earlier: float = 0  # in its earlier alternatives, at most
    has_alternatives: bool = False

    @classmethod
    def within(cls, count: float) -> Self:
        return cls(count, count)

    def next_alternative(self) -> None:
        self.earlier = self.most()
        self.count = self.begun
        self.has_alternatives = True

    def most(self) -> float:
        return max(self.earlier, self.count)


def _end_of_group(pattern: str, position: int) -> int:
    """Return where what stands behind the group begins that opens there."""
    depth = 0
    while position < len(pattern):
        char = pattern[position]
        if char == "\\":
            position += 1
        elif char == "[":
            position = _end_of_class(pattern, position)
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return len(pattern)


def _is_unbounded(pattern: str, position: int) -> bool:
    """Return whether a repetition begins there that goes on as long as it can, or many times."""
    repetition = REPETITION.match(pattern, position)
    if repetition is None:
        return False
    if repetition[0] in "*+":
        return True
    min_count = repetition[1]
    comma = repetition[2]
    max_count = repetition[3]
    if comma and not max_count:
        return True
    return int((max_count or min_count or "0")[:9]) > FEW


def _most_times(pattern: str, position: int) -> int:
    """Return how often what stands before may be repeated by the bounds that begin there, at most;
    1 where none begin.
    """
    bounds = re.compile(r"\{(\d*),?(\d*)\}").match(pattern, position)
    return 1 if bounds is None else int((bounds[2] or bounds[1] or "0")[:9])


def _choices(pattern: str, position: int) -> int:
    """Return how many numbers of times the range that begins there leaves open; 1 for none."""
    times = RANGE.match(pattern, position)
    if times is None:
        return 1
    if times[0] == "?":
        return 2
    return max(1, int(times["most"][:9]) - int(times["least"][:9] or 0) + 1)


def _is_wide(pattern: str, position: int) -> bool:
    """Return whether a range of more than two numbers of times begins there."""
    return _choices(pattern, position) > 2


def _end_of_class(pattern: str, position: int) -> int:
    """Return where the brackets that open there close, those within them passed over."""
    depth = 0
    while position < len(pattern):
        if pattern[position] == "\\":
            position += 1
        elif pattern[position] == "[":
            depth += 1
        elif pattern[position] == "]":
            depth -= 1
            if depth == 0:
                break
        position += 1
    return position
