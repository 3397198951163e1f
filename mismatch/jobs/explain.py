"""Which words of one text don't fit its image, as a result that a notebook shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from mismatch.data.lexicon import Lexicon
from mismatch.errors import InputError
from mismatch.io.text import article
from mismatch.reports.explanation_lines import raising_swaps
from mismatch.runtime.explain import explain as explain_pair
from mismatch.runtime.explanation import Explanation as Findings
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.preprocess import ImageSource
from mismatch.runtime.slice_use import warn_of_value

__all__ = ["Explanation", "explain"]


class Explanation(Findings):  # noqa: D101  its base's
    __doc__ = Findings.__doc__

    def _repr_html_(self) -> str:
        from mismatch.reports.explanation import explanation_fragment

        return explanation_fragment(self, raising_swaps(self))


def explain(
    predictor: Predictor,
    image: ImageSource,
    text: str,
    *,
    heat_map: bool = True,
    lexicon: Lexicon | None = None,
    slice_value: object = None,
    check: Callable[[], object] = lambda: None,
) -> Explanation:
    """Return which words lower the probability that `text` describes `image`.

    Every word and phrase is left out once, and each word of a `lexicon`, if one is given, is
    exchanged for others of its class. Only a part is tried for a long text; `left_out` counts the
    others. A heat map costs about fifty passes of the image tower. Words are named only where the
    model takes the pair for no match. `slice_value`: value of the slice whose threshold decides.
    `check` is called between calls of the towers; what it raises ends the work.

    Raises InputError for an image or a text that can't be used.
    """
    if not isinstance(predictor, Predictor):
        raise InputError(
            f"a loaded model is needed, not {article(type(predictor).__name__)}; call"
            " mismatch.load first",
            option="predictor",
        )
    warn_of_value(predictor.slices, predictor.threshold, slice_value)
    findings = explain_pair(
        predictor,
        image,
        text,
        heat_map=heat_map,
        lexicon=lexicon,
        slice_value=slice_value,
        check=check,
    )
    return Explanation(**{field.name: getattr(findings, field.name) for field in fields(findings)})
