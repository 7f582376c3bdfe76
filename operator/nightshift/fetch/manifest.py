"""The file that says a model's directory is complete, and what it holds."""

import os
import secrets
from pathlib import Path

from pydantic import Field, ValidationError

from nightshift.api.base import StoredModel
from nightshift.api.fetch import Count, Downloaded, Sha

MANIFEST_NAME = ".nightshift-manifest.json"


class ManifestFile(StoredModel):
    """A file in place, verified against the Hub's digest when it was written."""

    path: str
    size: Count = Field(description="In bytes.")
    sha256: str


class Manifest(StoredModel):
    """Written last: where it stands, all its files stood before it."""

    repository: str
    commit: Sha
    files: tuple[ManifestFile, ...]

    def outcome(self) -> Downloaded:
        """What to tell the operator."""
        return Downloaded(sha=self.commit, files=len(self.files), bytes=sum(file.size for file in self.files))


def read_manifest(directory: Path) -> Manifest | None:
    """The directory's manifest; None when there is none, or it cannot be read as one."""
    try:
        return Manifest.model_validate_json((directory / MANIFEST_NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def complete(directory: Path, commit: str) -> Manifest | None:
    """The manifest, when the directory holds all of this commit.

    Sizes are compared, contents are not: reading a large model again would delay every start by minutes.
    """
    manifest = read_manifest(directory)
    if manifest is None or manifest.commit != commit:
        return None
    in_place = all(has_size(directory / file.path, file.size) for file in manifest.files)
    return manifest if in_place else None


def has_size(path: Path, size: int) -> bool:
    """Whether a regular file of that size, no link, is there."""
    try:
        return path.is_file() and not path.is_symlink() and path.stat().st_size == size
    except OSError:
        return False


def write_atomically(path: Path, content: str, drafts: Path) -> None:
    """Write a small file so that a reader, and a crash, see the old or the new one whole.

    Args:
        path: The file.
        content: All of it.
        drafts: A directory on the same volume; the draft has a name of its own there.
    """
    draft = drafts / f"{secrets.token_hex(8)}.draft"
    with draft.open("w", encoding="utf-8") as target:
        target.write(content)
        target.flush()
        os.fsync(target.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make renames in a directory last over a crash of the machine."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
