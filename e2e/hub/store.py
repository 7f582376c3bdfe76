"""Directories as Hub repositories: commits, files and who may read them."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LARGE_SUFFIXES = frozenset({".safetensors", ".bin", ".pth", ".pt", ".gguf", ".onnx", ".h5", ".msgpack"})
_LARGE_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class StoredFile:
    """A file of a commit with the digests that the Hub shows."""

    path: str
    location: Path
    size: int
    git_oid: str
    sha256: str
    large: bool
    """Kept in large file storage: the Hub shows its SHA-256, and redirects to where it lies."""

    def tree_entry(self) -> dict[str, object]:
        """The file as `/tree` lists it."""
        entry: dict[str, object] = {
            "type": "file",
            "path": self.path,
            "size": self.size,
            "oid": self.git_oid,
        }
        if self.large:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": len(self.pointer())}
        return entry

    def pointer(self) -> bytes:
        """What git holds in place of a large file."""
        return _pointer(self.sha256, self.size)


@dataclass(frozen=True)
class Commit:
    """The content of one directory."""

    sha: str
    files: tuple[StoredFile, ...]

    def file(self, path: str) -> StoredFile | None:
        """The file of that path, if there is one."""
        return next((file for file in self.files if file.path == path), None)


@dataclass(frozen=True)
class Repository:
    """A model with its branches."""

    name: str
    branches: dict[str, Commit]
    older: tuple[Commit, ...]
    """Commits that no branch names any more."""
    gate: frozenset[str] | None
    """Tokens that may read the files, or None for everybody."""
    private: frozenset[str] | None
    """Tokens that see the repository at all, or None for everybody."""

    def commit(self, revision: str) -> Commit | None:
        """What a branch, tag or full commit id names."""
        by_sha = {commit.sha: commit for commit in (*self.branches.values(), *self.older)}
        return self.branches.get(revision) or by_sha.get(revision)


class Store:
    """Reads repositories below a root; nothing is kept but digests of unchanged files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._digests: dict[tuple[str, int, int], tuple[str, str]] = {}

    def repository(self, organisation: str, name: str) -> Repository | None:
        """The repository ORG/NAME, or None."""
        if not (_PART.fullmatch(organisation) and _PART.fullmatch(name)):
            return None
        home = self._root / organisation
        directories = {
            entry.name.partition("@")[2]: entry
            for entry in sorted(home.iterdir() if home.is_dir() else ())
            if entry.is_dir() and entry.name.partition("@")[0] == name
        }
        if not directories:
            return None
        plain = directories.pop("", None)
        branches = {branch: self._commit(directory) for branch, directory in directories.items()}
        older: tuple[Commit, ...] = ()
        if plain is not None:
            commit = self._commit(plain)
            if branches.setdefault("main", commit) is not commit:
                older = (commit,)
        sources = [plain] if plain is not None else list(directories.values())
        return Repository(
            name=f"{organisation}/{name}",
            branches=branches,
            older=older,
            gate=_first_tokens(sources, ".gated"),
            private=_first_tokens(sources, ".private"),
        )

    def known_tokens(self) -> frozenset[str]:
        """Every token that the server takes for valid."""
        lists = [
            *self._root.glob(".tokens"),
            *self._root.glob("*/*/.gated"),
            *self._root.glob("*/*/.private"),
        ]
        return frozenset().union(*(_tokens(path) for path in lists))

    def _commit(self, directory: Path) -> Commit:
        files = []
        for location in sorted(directory.rglob("*")):
            relative = PurePosixPath(location.relative_to(directory))
            if location.is_file() and relative.parts[0] not in {".gated", ".private", ".git"}:
                files.append(self._file(str(relative), location))
        listing = "".join(f"{file.path}\0{file.git_oid}\n" for file in files)
        return Commit(hashlib.sha1(listing.encode()).hexdigest(), tuple(files))

    def _file(self, path: str, location: Path) -> StoredFile:
        stat = location.stat()
        key = (str(location), stat.st_size, stat.st_mtime_ns)
        if key not in self._digests:
            git, sha256 = hashlib.sha1(b"blob %d\0" % stat.st_size), hashlib.sha256()
            with location.open("rb") as content:
                while block := content.read(1 << 20):
                    git.update(block)
                    sha256.update(block)
            self._digests[key] = (git.hexdigest(), sha256.hexdigest())
        git_oid, digest = self._digests[key]
        large = location.suffix in _LARGE_SUFFIXES or stat.st_size > _LARGE_BYTES
        if large:
            pointer = _pointer(digest, stat.st_size)
            git_oid = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest()
        return StoredFile(path, location, stat.st_size, git_oid, digest, large)


def _pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def _first_tokens(directories: list[Path], name: str) -> frozenset[str] | None:
    return next((_tokens(path) for directory in directories if (path := directory / name).is_file()), None)


def _tokens(path: Path) -> frozenset[str]:
    return frozenset(line.strip() for line in path.read_text().splitlines() if line.strip())
