"""The Hugging Face Hub, or a server that speaks its protocol, through the huggingface_hub client.

Resolving, listing, addresses, headers, sessions and error types are the client's. The body of a file
is read here with the client's session, because its own download starts a file again from the first
byte after a kill, and buffers 10 MiB before anything is written or counted.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from typing import BinaryIO

import httpx2
from huggingface_hub import HfApi, get_hf_file_metadata, get_session, hf_hub_url, set_client_factory
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # documented as public

from nightshift import __version__
from nightshift.api.fetch import FetchReason

DEFAULT_ENDPOINT = "https://huggingface.co"

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
"""Longest silence on an open connection before the request is given up and tried again."""

_TIMEOUT = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
_TRANSIENT_STATUS = frozenset({408, 425, 429})
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubRefused(Exception):  # noqa: N818 - an answer, not a mishap
    """A definite answer that trying again does not change."""

    def __init__(self, reason: FetchReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class HubUnavailable(Exception):  # noqa: N818 - a state of the Hub, not of this program
    """The Hub did not answer, or not now: worth another try. The text says what happened."""


@dataclass(frozen=True)
class HubFile:
    """A file of a commit, as the Hub lists it."""

    path: str
    """Relative to the repository, with forward slashes."""
    size: int
    """In bytes, of the content and not of a pointer to it."""
    git_oid: str
    """Git's object id of the file, or of the pointer to it when `sha256` is set."""
    sha256: str | None
    """Of the content of files kept in large file storage, else None."""

    @property
    def content_id(self) -> str:
        """Names the content: the strongest digest that the Hub gives."""
        return self.sha256 or self.git_oid


class ContentDigest:
    """Digests of a file while it is written: the one to compare with the Hub's, and always SHA-256."""

    def __init__(self, file: HubFile) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._git = None
        if file.sha256 is None:
            # Git names a blob by SHA-1; it stands for what the Hub lists and protects nothing.
            self._git = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """Take the next bytes of the content."""
        self._sha256.update(data)
        if self._git is not None:
            self._git.update(data)

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes so far, in hexadecimal."""
        return self._sha256.hexdigest()

    def matches(self) -> bool:
        """Whether the bytes so far are the content that the Hub listed."""
        if self._git is not None:
            return self._git.hexdigest() == self._file.git_oid
        return self.sha256 == self._file.sha256


class Hub:
    """Reads models of one Hub with one token, or none.

    Every method raises HubRefused or HubUnavailable; no message of theirs holds the token.
    """

    def __init__(self, endpoint: str | None = None, token: str | None = None, field: str = "spec.model") -> None:
        """Set up the client of this process.

        Args:
            endpoint: Address of the Hub; default: the public one.
            token: Access token, or None to read as nobody; tokens left on the disk are never used.
            field: Where uri and revision of what is read stand, for messages.
        """
        self.endpoint = (endpoint or DEFAULT_ENDPOINT).rstrip("/")
        self._token: str | bool = (token or "").strip() or False
        self.field = field
        self._api = HfApi(endpoint=self.endpoint, token=self._token)
        set_client_factory(_client)

    def resolve(self, repository: str, revision: str) -> str:
        """The commit that a branch, tag or commit names now."""
        with self._asking(repository, revision):
            info = self._api.model_info(repository, revision=revision, timeout=READ_SECONDS)
        if not info.sha or not _COMMIT.fullmatch(info.sha):
            raise HubUnavailable(f"{self.endpoint} names no commit for {repository}: is it a Hub?")
        return info.sha

    def list_files(self, repository: str, sha: str) -> tuple[HubFile, ...]:
        """All files of a commit, by path."""
        with self._asking(repository, sha):
            entries = list(self._api.list_repo_tree(repository, recursive=True, revision=sha))
        files = [
            HubFile(
                path=entry.path,
                size=entry.lfs.size if entry.lfs else entry.size,
                git_oid=entry.blob_id,
                sha256=entry.lfs.sha256 if entry.lfs else None,
            )
            for entry in entries
            if isinstance(entry, RepoFile)
        ]
        return tuple(sorted(files, key=lambda file: file.path))

    def check_access(self, repository: str, sha: str, file: HubFile) -> None:
        """Ask for a file without its content: a gated model lists its files for everybody."""
        with self._asking(repository, sha):
            get_hf_file_metadata(
                hf_hub_url(repository, file.path, revision=sha, endpoint=self.endpoint),
                token=self._token,
                timeout=READ_SECONDS,
                endpoint=self.endpoint,
            )

    def read_into(
        self,
        repository: str,
        sha: str,
        file: HubFile,
        target: BinaryIO,
        digest: ContentDigest,
        on_bytes: Callable[[int], None],
    ) -> None:
        """Append the rest of a file's content.

        Args:
            repository: ORG/NAME.
            sha: The commit.
            file: The file.
            target: Holds the first `target.tell()` bytes already, which `digest` has seen.
            digest: Gets every byte that is written.
            on_bytes: Called with the number of bytes after each write.

        Raises:
            HubRefused: As everywhere, and ModelCorrupt when the Hub sends more than it listed.
            HubUnavailable: The connection broke; what was written is good, go on from there.
            OSError: The target could not be written.
        """
        offset = target.tell()
        url = hf_hub_url(repository, file.path, revision=sha, endpoint=self.endpoint)
        headers = {"Accept-Encoding": "identity", "User-Agent": f"nightshift/{__version__}"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if offset:
            headers["Range"] = f"bytes={offset}-"
        with self._translated(repository, sha), get_session().stream("GET", url, headers=headers) as response:
            hf_raise_for_status(response)
            # A server may answer a range with the whole file: what is here already is passed over.
            skip = offset if response.status_code != httpx2.codes.PARTIAL_CONTENT else 0
            for chunk in response.iter_bytes():
                fresh = chunk[skip:]
                skip -= len(chunk) - len(fresh)
                if target.tell() + len(fresh) > file.size:
                    raise HubRefused(
                        FetchReason.MODEL_CORRUPT,
                        f"{self.endpoint} sends more bytes of {file.path} of {repository} than it lists; "
                        f"ask its operator to repair it, or choose another {self.field}.revision.",
                    )
                if fresh:
                    target.write(fresh)
                    digest.update(fresh)
                    on_bytes(len(fresh))

    @contextmanager
    def _translated(self, repository: str, revision: str) -> Iterator[None]:
        """Turn the client's exceptions into the two of this module."""
        try:
            yield
        except OfflineModeIsEnabled as error:
            raise HubUnavailable("HF_HUB_OFFLINE is set") from error
        except HFValidationError as error:
            raise HubRefused(
                FetchReason.MODEL_NOT_FOUND,
                f"{repository} is no name of a Hub repository; correct {self.field}.uri.",
            ) from error
        except HfHubHTTPError as error:
            raise self._refused_or_unavailable(error, repository, revision) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, LocalEntryNotFoundError) as error:
            raise HubUnavailable(f"{self.endpoint}: {self.redact(error)}") from error

    @contextmanager
    def _asking(self, repository: str, revision: str) -> Iterator[None]:
        """As `_translated`, for questions whose answers the client reads."""
        with self._translated(repository, revision):
            try:
                yield
            except (AttributeError, KeyError, TypeError, UnicodeError, JSONDecodeError) as error:
                # The client takes answers unchecked: a page that is not the Hub's ends up here.
                raise HubUnavailable(f"{self.endpoint} gave an answer that is not the Hub's") from error

    def _refused_or_unavailable(self, error: HfHubHTTPError, repository: str, revision: str) -> Exception:
        status = error.response.status_code
        if isinstance(error, GatedRepoError):
            return HubRefused(FetchReason.MODEL_ACCESS_DENIED, self._gated(repository))
        if isinstance(error, RepositoryNotFoundError):
            return HubRefused(FetchReason.MODEL_NOT_FOUND, self._missing(repository))
        if isinstance(error, RevisionNotFoundError):
            return HubRefused(
                FetchReason.MODEL_REVISION_NOT_FOUND,
                f"Repository {repository} has no branch, tag or commit {revision}; correct {self.field}.revision.",
            )
        if isinstance(error, RemoteEntryNotFoundError):
            return HubRefused(
                FetchReason.MODEL_CORRUPT,
                f"{self.endpoint} lists a file of {repository} at {revision} that it does not have; "
                f"ask its operator to repair it, or choose another {self.field}.revision.",
            )
        if isinstance(error, DisabledRepoError):
            return HubRefused(
                FetchReason.MODEL_ACCESS_DENIED,
                f"The Hub has disabled repository {repository}; choose another {self.field}.uri.",
            )
        if status in (401, 403):
            return HubRefused(FetchReason.MODEL_ACCESS_DENIED, self._denied(repository))
        if status in _TRANSIENT_STATUS or status >= 500:
            return HubUnavailable(f"{self.endpoint} answered {status}")
        if status == 404:
            return HubRefused(FetchReason.MODEL_NOT_FOUND, self._missing(repository))
        return HubUnavailable(f"{self.endpoint} answered {status}: {self.redact(error.server_message or '')}")

    def _gated(self, repository: str) -> str:
        if not self._token:
            return (
                f"Repository {repository} is gated and no token was given; accept its terms on the Hub "
                "and set spec.model.tokenSecretRef."
            )
        return (
            f"Repository {repository} is gated and the token of spec.model.tokenSecretRef has no access; "
            "accept its terms on the Hub with the token's account, and let the token read gated repositories."
        )

    def _missing(self, repository: str) -> str:
        if not self._token:
            return (
                f"Repository {repository} does not exist at {self.endpoint}, or it is private and no token "
                f"was given; correct {self.field}.uri or set spec.model.tokenSecretRef."
            )
        return (
            f"Repository {repository} does not exist at {self.endpoint}, or the token of "
            f"spec.model.tokenSecretRef cannot see it; correct {self.field}.uri or the token."
        )

    def _denied(self, repository: str) -> str:
        if not self._token:
            return f"The Hub wants a token for {repository}; set spec.model.tokenSecretRef."
        return (
            f"The Hub refused the token of spec.model.tokenSecretRef for {repository}; put a valid token "
            "with read access into that Secret."
        )

    def redact(self, text: object) -> str:
        """The text without the token."""
        return str(text).replace(self._token, "[token]") if isinstance(self._token, str) else str(text)


def _client() -> httpx2.Client:
    return httpx2.Client(event_hooks={"request": [_bound]}, follow_redirects=True, timeout=_TIMEOUT)


def _bound(request: httpx2.Request) -> None:
    """Give every request a timeout: several methods of the client ask for none."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    given = request.extensions.get("timeout", {})
    bounds = _TIMEOUT.as_dict()
    request.extensions["timeout"] = {
        key: min(limit, given.get(key) or limit) for key, limit in bounds.items() if limit is not None
    }
