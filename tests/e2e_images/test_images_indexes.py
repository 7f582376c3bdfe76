"""The host's package index settings on their way into RUN steps."""

from pathlib import Path

import pytest

from e2e.images import indexes

FILE = "[global]\nindex-url = https://packages.example.org/simple\nfind-links = /wheels\ncert = /elsewhere.pem\n"


def test_pip_is_told_the_indexes_of_the_host_but_no_paths_of_it() -> None:
    assert indexes.pip_options([FILE], {"PIP_TIMEOUT": "180", "PIP_FIND_LINKS": "/wheels"}) == {
        "index-url": "https://packages.example.org/simple",
        "timeout": "180",
        "cert": indexes.BUNDLE,
        "disable-pip-version-check": "true",
    }


def test_the_environment_goes_before_the_file() -> None:
    options = indexes.pip_options([FILE], {"PIP_INDEX_URL": "https://other.example.org/simple"})
    assert options["index-url"] == "https://other.example.org/simple"


@pytest.mark.parametrize(
    ("pip", "environment", "expected"),
    [
        ({}, {}, {}),
        ({"index-url": "https://a/simple"}, {}, {"index-url": "https://a/simple"}),
        ({"index-url": "https://a/simple"}, {"UV_DEFAULT_INDEX": "https://b/s"}, {"index-url": "https://b/s"}),
        ({}, {"UV_DEFAULT_INDEX": "mine=https://b/s?x=1"}, {"index-url": "https://b/s?x=1"}),
        ({"extra-index-url": "https://a https://b"}, {}, {"extra-index-url": ["https://a", "https://b"]}),
    ],
)
def test_uv_gets_what_pip_has(pip: dict[str, str], environment: dict[str, str], expected: dict[str, object]) -> None:
    assert indexes.uv_options(pip, environment) == expected


def test_the_files_exist_for_the_time_of_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "PIP_FILES", ())
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example.org/simple")
    with indexes.as_files(tmp_path) as volumes:
        targets = {volume.split(":")[1]: Path(volume.split(":")[0]) for volume in volumes}
        assert set(targets) == {"/etc/pip.conf", "/etc/uv/uv.toml"}
        assert "index-url = https://packages.example.org/simple" in targets["/etc/pip.conf"].read_text()
        assert targets["/etc/uv/uv.toml"].read_text() == 'index-url = "https://packages.example.org/simple"\n'
    assert list(tmp_path.iterdir()) == []
