"""What stories read of curl's output."""

import pytest

from e2e.support.asking import parse_answer

HEAD = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nretry-after: 5\r\n\r\n"


def test_an_error_is_read_with_its_headers() -> None:
    found = parse_answer(HEAD + '{"error": {"message": "m", "type": "t", "param": null, "code": "c"}}')
    assert (found.status, found.headers["content-type"], found.headers["retry-after"]) == (404, "application/json", "5")
    assert found.error["code"] == "c"


def test_an_error_of_another_shape_fails_the_story() -> None:
    with pytest.raises(AssertionError):
        _ = parse_answer(HEAD + '{"error": {"message": "m"}}').error
