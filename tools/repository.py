"""Where things lie in the repository, and what git tracks."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The repository's root."""


def tracked() -> tuple[Path, ...]:
    """Every file that git tracks and that exists, relative to the root.

    Raises:
        subprocess.CalledProcessError: This is no git checkout.
    """
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    paths = (Path(name) for name in listed.split("\0") if name)
    return tuple(path for path in paths if (ROOT / path).is_file())
