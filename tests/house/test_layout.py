"""The code's house: layers, sizes, and what must never be in the repository."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.repository import ROOT, tracked

MAX_LINES = 400
PYTHON = sorted(path for path in tracked() if path.suffix == ".py")
LOCKS = sorted(
    path
    for path in tracked()
    if path.suffix == ".txt"
    and (
        path.stem.startswith("requirements")
        or path.parts[0] == "requirements"
        or "--hash=" in (ROOT / path).read_text()
    )
)
"""What is installed from: the compiled files of requirements, and whatever else pins by hash."""

MACHINE_PATH = re.compile(r"(?<![\w.$}-])/(?:work|opt/wheels|Users/\w+)/")
"""Directories of the machine that somebody worked on. Paths inside of containers and system paths are others."""

REQUIREMENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*==\S+")
INDEX_OPTION = re.compile(r"^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b", re.MULTILINE)


def lock_problems(text: str) -> list[str]:
    """What is wrong with a lock file: a requirement without a hash, or an address."""
    found = []
    if "://" in text or INDEX_OPTION.search(text):
        found.append("names an address or an index")
    for block in re.split(r"\n(?=[A-Za-z0-9])", text.replace("\\\n", " ")):
        first = block.strip().splitlines()[0] if block.strip() else ""
        if REQUIREMENT.match(first) and "--hash=sha256:" not in first:
            found.append(f"{first.split()[0]} has no hash")
    return found


def test_imports_go_one_way() -> None:
    """In a process of its own: import-linter's setup of logging disables all loggers that others made before."""
    call = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(sys.argv[1], no_cache=True))"
    command = [sys.executable, "-c", call, str(ROOT / "pyproject.toml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_operators_directory_does_not_shadow_the_standard_librarys_operator() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_no_file_is_longer_than_a_reader_likes() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in PYTHON}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}
    assert any(path.startswith("operator/nightshift/core/") for path in lengths)


def test_there_are_lock_files() -> None:
    assert {Path("requirements/runtime.txt"), Path("requirements/dev.txt")} <= set(LOCKS)


@pytest.mark.parametrize("path", LOCKS, ids=str)
def test_a_lock_file_has_hashes_and_no_address(path: Path) -> None:
    assert lock_problems((ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "kopf==1.45.2\n    # via nightshift\n",
        "kopf==1.45.2 \\\n    --hash=sha256:ab\naiohttp==3.14\n",
        "--index-url file:///packages\nkopf==1.45.2 --hash=sha256:ab\n",
        "-f wheels\nkopf==1.45.2 --hash=sha256:ab\n",
    ],
)
def test_a_wrong_lock_file_is_found(text: str) -> None:
    assert lock_problems(text) != []


def test_no_file_names_directories_of_somebodys_machine() -> None:
    found = [
        f"{path}:{number}"
        for path in tracked()
        for number, line in enumerate((ROOT / path).read_text(errors="replace").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_a_directory_of_somebodys_machine_is_recognised() -> None:
    assert MACHINE_PATH.search('root = "' + "/work" + '/main"')
    assert MACHINE_PATH.search("see " + "/Users" + "/ada/nightshift")
    assert not MACHINE_PATH.search("mounted at /models, see docs/work/main")
