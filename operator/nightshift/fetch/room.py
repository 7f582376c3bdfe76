"""Room for a model beside others on the same volume: what earlier commits left there goes.

Only directories beside the model's own that a download made are touched. What replicas may read never goes; what a
stored revision names goes only where room is short, since going back to it would bring it again.
"""

import errno
import fcntl
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nightshift.fetch.manifest import MANIFEST_NAME, sync_directory

LOCK_NAME = ".nightshift-lock"
PARTIAL_NAME = ".nightshift-partial"
GONE_PREFIX = ".nightshift-gone-"
"""A directory is renamed so before its files go: half of a model never bears a commit's name."""

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS})
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Room:
    """Which directories of other commits may go."""

    in_use: frozenset[str]
    """Commits that replicas may read."""
    kept: frozenset[str]
    """Commits that stored revisions name."""

    def clear(self, directory: Path) -> None:
        """Remove what nobody names any more, beside the directory of the commit that is downloaded."""
        for left in directory.parent.glob(f"{GONE_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        for other in self._others(directory):
            if other.name not in self.kept:
                _remove(other)

    def make(self, directory: Path, enough: Callable[[], bool]) -> bool:
        """Remove what only stored revisions name, the oldest first, until there is enough room; whether there is."""
        for other in sorted(self._others(directory), key=_age):
            if enough():
                return True
            _remove(other)
        return enough()

    def _others(self, directory: Path) -> Iterator[Path]:
        for other in sorted(directory.parent.iterdir()):
            spared = other.name == directory.name or other.name in self.in_use
            if not spared and _COMMIT.fullmatch(other.name) and _is_ours(other):
                yield other


def try_lock(descriptor: int) -> bool:
    """Hold a directory alone by its lock file, unless another download does.

    Raises:
        OSError: Not for want of locks: without them two downloads cost twice the traffic, no more. Both write the
            same bytes to the same places, and a file gets its name after it was verified.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _is_ours(directory: Path) -> bool:
    marks = (MANIFEST_NAME, LOCK_NAME, PARTIAL_NAME)
    return directory.is_dir() and not directory.is_symlink() and any((directory / mark).exists() for mark in marks)


def _age(directory: Path) -> float:
    try:
        return directory.stat().st_mtime
    except OSError:
        return 0.0


def _remove(directory: Path) -> None:
    """Remove a model, unless another download works on it."""
    gone = directory.with_name(f"{GONE_PREFIX}{secrets.token_hex(8)}")
    try:
        with (directory / LOCK_NAME).open("a") as lock:
            if not try_lock(lock.fileno()):
                return
            directory.rename(gone)
            sync_directory(gone.parent)
    except OSError:
        return  # not ours to change: it stays
    shutil.rmtree(gone, ignore_errors=True)
