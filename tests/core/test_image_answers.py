from datetime import timedelta

import pytest

from nightshift.core.facts import ImageNotFound, Known, Unknown
from nightshift.core.images import IMAGE_ANSWER_SECONDS, NOT_FOUND_SECONDS, answered, ask_again
from nightshift.core.observed import ImageAnswer
from tests.support.builders import DIGEST, NOW

SILENT, FOUND, MISSING = Unknown("no answer"), Known(DIGEST, NOW), ImageNotFound("no such tag.")


def before(answer: Known[str] | ImageNotFound | Unknown, silences: int, ago: float = 5) -> ImageAnswer:
    return ImageAnswer(answer, silences, NOW - timedelta(seconds=ago))


@pytest.mark.parametrize(
    ("earlier", "answer", "silences"),
    [
        pytest.param(None, SILENT, 1, id="the first question meets silence"),
        pytest.param(before(SILENT, 2), SILENT, 3, id="silence goes on"),
        pytest.param(before(SILENT, 2), FOUND, 0, id="an answer ends it"),
        pytest.param(before(SILENT, 2), MISSING, 0, id="so does the answer that there is none"),
        pytest.param(before(FOUND, 0), SILENT, 1, id="earlier answers are no silences"),
        pytest.param(before(SILENT, 9, IMAGE_ANSWER_SECONDS), SILENT, 1, id="a silence of long ago does not count"),
    ],
)
def test_only_silences_one_after_another_count(
    earlier: ImageAnswer | None, answer: Known[str] | ImageNotFound | Unknown, silences: int
) -> None:
    assert answered(earlier, answer, NOW) == ImageAnswer(answer, silences, NOW)


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        pytest.param(before(SILENT, 1, 0), 2.0, id="after a first silence"),
        pytest.param(before(SILENT, 2, 0), 4.0, id="after a second"),
        pytest.param(before(SILENT, 3, 0), IMAGE_ANSWER_SECONDS, id="a third is taken for an answer"),
        pytest.param(before(FOUND, 0, 0), IMAGE_ANSWER_SECONDS, id="an answer holds for a while"),
        pytest.param(before(MISSING, 0, 0), NOT_FOUND_SECONDS, id="a missing tag may be pushed"),
    ],
)
def test_when_the_same_is_asked_again(found: ImageAnswer, seconds: float) -> None:
    assert ask_again(found) == NOW + timedelta(seconds=seconds)
