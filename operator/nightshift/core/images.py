"""Answers of registries: when one counts, and when a question is asked again."""

from datetime import datetime, timedelta

from nightshift.core.facts import ImageNotFound, Known, Unknown
from nightshift.core.observed import ImageAnswer

IMAGE_ATTEMPTS = 3
"""A registry that did not answer so often in a row is taken as none: then the tag identifies the image."""

IMAGE_ANSWER_SECONDS = 600.0
"""A registry's answer is used for so long; a revision that is made later asks again, and is pinned then."""

NOT_FOUND_SECONDS = 60.0
"""An image that was missing is looked for again after so long."""


def answered(before: ImageAnswer | None, answer: Known[str] | ImageNotFound | Unknown, now: datetime) -> ImageAnswer:
    """What is kept of an answer: silence is counted as long as it lasts, and any word ends it.

    Worked example: two timeouts, a digest and, ten minutes later, a timeout is one silence, not four.
    """
    if not isinstance(answer, Unknown):
        return ImageAnswer(answer, 0, now)
    silent = before is not None and isinstance(before.answer, Unknown) and now < _expires(before)
    return ImageAnswer(answer, before.silences + 1 if before is not None and silent else 1, now)


def ask_again(found: ImageAnswer) -> datetime:
    """From when on a registry may be asked the same question again, whoever asks.

    Worked example: after the first silence in 2 s, after the second in 4 s, after the third when it has expired.
    """
    if isinstance(found.answer, ImageNotFound):
        return found.at + timedelta(seconds=NOT_FOUND_SECONDS)
    if isinstance(found.answer, Unknown) and found.silences < IMAGE_ATTEMPTS:
        return found.at + timedelta(seconds=2.0**found.silences)
    return _expires(found)


def _expires(found: ImageAnswer) -> datetime:
    return found.at + timedelta(seconds=IMAGE_ANSWER_SECONDS)
