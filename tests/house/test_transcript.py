import pytest

from tools.transcript import BEGIN, END, with_transcript


def test_a_transcript_takes_the_place_of_the_one_before() -> None:
    page = f"before\n{BEGIN}old\n{END}after\n"
    assert with_transcript(page, "new\n\n") == f"before\n{BEGIN}new\n{END}after\n"


@pytest.mark.parametrize("page", ["no marks\n", BEGIN, f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_its_marks_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="each mark of the transcript once"):
        with_transcript(page, "new")
