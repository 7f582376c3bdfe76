"""Brings exactly one commit of a model into a directory; may be killed at any point and started again.

In the directory: finished files under their own names, unfinished ones below `.nightshift-partial`,
and the manifest, which is written last. Any file that is there already is kept if its content is right.
"""

import hashlib
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

from pydantic import TypeAdapter, ValidationError

from nightshift.adapters.hub import ContentDigest, Hub, HubFile, HubRefused, HubUnavailable
from nightshift.api.fetch import Downloaded, FetchReason
from nightshift.fetch.manifest import (
    MANIFEST_NAME,
    Manifest,
    ManifestFile,
    complete,
    has_size,
    read_manifest,
    sync_directory,
    write_atomically,
)
from nightshift.fetch.room import LOCK_NAME, PARTIAL_NAME, Room, try_lock
from nightshift.fetch.select import select
from nightshift.fetch.supervise import Cancelled, Meter, Phase, retrying

PLAN_NAME = "plan.json"

CACHE_REMEDY = (
    "with cache type Claim raise spec.model.cache.size (during a change of the model it holds both the old and the new "
    "one), with type Pod use nodes with more disk, or choose a smaller model"
)
"""What helps where the cache is full."""

CONNECTIONS = 4
"""Files read from the Hub at the same time."""

_BLOCK_BYTES = 1024 * 1024
_SYNC_BYTES = 256 * 1024 * 1024
"""Written bytes after which they are forced to the disk: one sync at the end of a large file could take
longer than a download may stand still."""

_LOCK_POLL_SECONDS = 0.2
_PATHS: TypeAdapter[list[str]] = TypeAdapter(list[str])


Choice: TypeAlias = Callable[[str, Iterable[HubFile]], tuple[HubFile, ...]]
"""Of a repository's files, those to fetch; raises HubRefused where there are none."""


def download(
    hub: Hub,
    repository: str,
    sha: str,
    directory: Path,
    meter: Meter,
    choose: Choice = select,
    room: Room | None = None,
) -> Downloaded:
    """Fetch a commit, unless the directory holds all of it.

    Args:
        hub: Where from.
        repository: Which model.
        sha: Its commit.
        directory: Where to.
        meter: Told of the progress.
        choose: Which files.
        room: What may go to make room for it; None where nothing may.

    Raises:
        HubRefused: It cannot be had, or its content is not what the Hub lists.
        OSError: The directory cannot be written.
        Cancelled: The supervisor gave up.
    """
    manifest = complete(directory, sha)
    if manifest is None:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory, meter):
            try:
                manifest = complete(directory, sha) or _fetch(hub, repository, sha, directory, meter, choose, room)
            except FileNotFoundError:
                # Where locks do nothing, another download that was first has cleared up: look again.
                manifest = complete(directory, sha) or _fetch(hub, repository, sha, directory, meter, choose, room)
    return manifest.outcome()


def _fetch(
    hub: Hub, repository: str, sha: str, directory: Path, meter: Meter, choose: Choice, room: Room | None
) -> Manifest:
    meter.phase = Phase.ASKING
    files = choose(repository, retrying(meter, lambda: hub.list_files(repository, sha)))
    _clear_way(directory, [file.path for file in files])
    _check_space(directory, files, room)
    meter.phase = Phase.DOWNLOADING
    meter.expect(files=len(files), size=sum(file.size for file in files))
    done = _in_parallel(files, lambda file: _fetch_file(hub, repository, sha, directory, file, meter))
    manifest = Manifest(repository=repository, commit=sha, files=tuple(sorted(done, key=lambda f: f.path)))
    partial = directory / PARTIAL_NAME
    write_atomically(directory / MANIFEST_NAME, manifest.model_dump_json(by_alias=True), drafts=partial)
    shutil.rmtree(partial, ignore_errors=True)
    return manifest


@contextmanager
def _locked(directory: Path, meter: Meter) -> Iterator[None]:
    """Hold the directory alone; the lock ends with the process, however that ends."""
    with (directory / LOCK_NAME).open("a") as lock:
        meter.phase = Phase.WAITING
        seen = -1
        while not try_lock(lock.fileno()):
            size = _bytes_on_disk(directory)
            if size != seen:
                seen = size
                meter.touch()
            meter.pause(_LOCK_POLL_SECONDS)
        meter.touch()
        yield


def _bytes_on_disk(directory: Path) -> int:
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except OSError:
                continue
    return total


def _clear_way(directory: Path, paths: list[str]) -> None:
    """Take back the manifest and what only another commit had, and note what is coming."""
    partial = directory / PARTIAL_NAME
    partial.mkdir(exist_ok=True)
    old = read_manifest(directory)
    known = {file.path for file in old.files} if old else set()
    with suppress(OSError, ValidationError):
        known.update(_PATHS.validate_json((partial / PLAN_NAME).read_bytes()))
    write_atomically(partial / PLAN_NAME, _PATHS.dump_json(sorted(known.union(paths))).decode(), drafts=partial)
    (directory / MANIFEST_NAME).unlink(missing_ok=True)
    sync_directory(directory)
    for path in known.difference(paths):
        stale = directory / path
        if _is_below(directory, stale):
            stale.unlink(missing_ok=True)


def _check_space(directory: Path, files: Sequence[HubFile], room: Room | None) -> None:
    present = sum(file.size for file in files if has_size(directory / file.path, file.size))
    partial = sum(_size(_partial_path(directory, file)) for file in files)
    missing = sum(file.size for file in files) - present - partial

    def enough() -> bool:
        return missing <= shutil.disk_usage(directory).free

    if room is not None:
        room.clear(directory)
    if not (enough() if room is None else room.make(directory, enough)):
        free = shutil.disk_usage(directory).free
        raise HubRefused(
            FetchReason.MODEL_CACHE_FULL,
            f"The model needs {_gibibytes(missing)} more and its cache has {_gibibytes(free)} free; {CACHE_REMEDY}.",
        )


def _fetch_file(hub: Hub, repository: str, sha: str, directory: Path, file: HubFile, meter: Meter) -> ManifestFile:
    target = directory / file.path
    if not _is_below(directory, target):
        raise HubRefused(
            FetchReason.MODEL_CORRUPT,
            f"The cache holds a link in place of {file.path}; empty the volume of spec.model.cache.",
        )
    digest = ContentDigest(file)
    if has_size(target, file.size):
        with target.open("rb") as content:
            _digest_present(content, digest, meter)
        if digest.matches():
            meter.moved(files=1)
            return ManifestFile(path=file.path, size=file.size, sha256=digest.sha256)
        meter.moved(-file.size)
    # Twice: what an earlier, killed attempt left may be damaged, and then only the second starts afresh.
    for _ in range(2):
        sha256 = _write_partial(hub, repository, sha, directory, file, meter)
        if sha256 is not None:
            _put_in_place(_partial_path(directory, file), target, file.size)
            meter.moved(files=1)
            return ManifestFile(path=file.path, size=file.size, sha256=sha256)
        meter.moved(-file.size)
    raise HubRefused(
        FetchReason.MODEL_CORRUPT,
        f"File {file.path} of {repository} at {sha} arrives with another content than the Hub lists; check "
        f"proxies on the way to the Hub, or choose another {hub.field}.revision.",
    )


def _write_partial(hub: Hub, repository: str, sha: str, directory: Path, file: HubFile, meter: Meter) -> str | None:
    """Complete the partial file; its SHA-256, or None, and no file, when its content is wrong."""
    path = _partial_path(directory, file)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "r+b") as target:
        if os.fstat(descriptor).st_size > file.size:
            target.truncate(0)
        digest = ContentDigest(file)
        _digest_present(target, digest, meter)
        unsynced = 0

        def on_bytes(count: int) -> None:
            nonlocal unsynced
            unsynced += count
            if unsynced >= _SYNC_BYTES:
                target.flush()
                os.fdatasync(descriptor)
                unsynced = 0
            meter.moved(count)

        def read_rest() -> None:
            if target.tell() < file.size:
                hub.read_into(repository, sha, file, target, digest, on_bytes)
            if target.tell() < file.size:
                raise HubUnavailable(f"{file.path} ended early")

        retrying(meter, read_rest)
        target.flush()
        os.fsync(descriptor)
        if digest.matches() and os.fstat(descriptor).st_size == file.size:
            return digest.sha256
    path.unlink(missing_ok=True)
    return None


def _digest_present(content: BinaryIO, digest: ContentDigest, meter: Meter) -> None:
    while block := content.read(_BLOCK_BYTES):
        digest.update(block)
        meter.moved(len(block))


def _put_in_place(partial: Path, target: Path, size: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.replace(target)
    except FileNotFoundError:
        # Where locks do nothing, another download may have been first.
        if not has_size(target, size):
            raise
    sync_directory(target.parent)


def _in_parallel(files: Sequence[HubFile], fetch: Callable[[HubFile], ManifestFile]) -> list[ManifestFile]:
    """Fetch files over several connections, large ones first; the first failure ends all."""
    waiting: queue.SimpleQueue[HubFile] = queue.SimpleQueue()
    for file in sorted(files, key=lambda file: -file.size):
        waiting.put(file)
    done: list[ManifestFile] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            while not failures:
                done.append(fetch(waiting.get_nowait()))
        except queue.Empty:
            return
        except BaseException as error:
            # Raised again in the caller's thread.
            failures.append(error)

    # Daemons, as a pool's threads are not: the process must be able to end while they hang in a read.
    threads = [threading.Thread(target=run, name=f"fetch-{n}", daemon=True) for n in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and not failures:
            thread.join(0.05)
    if failures:
        # The cause, not the others' giving up.
        raise next((error for error in failures if not isinstance(error, Cancelled)), failures[0])
    return done


def _partial_path(directory: Path, file: HubFile) -> Path:
    # By content, so that another commit's partial file is never taken for this one's; and by path, so
    # that two equal files do not share one.
    name = hashlib.sha256(f"{file.content_id}\0{file.path}".encode()).hexdigest()
    return directory / PARTIAL_NAME / f"{name[:40]}.part"


def _is_below(directory: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(directory.resolve())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _gibibytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
