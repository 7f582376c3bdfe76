"""vLLM versions as ordered values, and when each simulated behaviour came or went."""

from __future__ import annotations

import re
from typing import NamedTuple

_PATTERN = re.compile(r"^(\d+)\.(\d+)\.(\d+)(?:\.post\d+)?$")


class Version(NamedTuple):
    """A vLLM release, compared by its numbers."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read a release such as ``0.32.0``.

        Raises:
            ValueError: the text is not MAJOR.MINOR.PATCH.
        """
        match = _PATTERN.match(text)
        if match is None:
            raise ValueError(f"not a vLLM version: {text!r} (want MAJOR.MINOR.PATCH, such as 0.32.0)")
        return cls(*(int(part) for part in match.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


OLDEST = Version(0, 8, 0)
NEWEST = Version(0, 33, 0)

# The first release that read 0.32's wording of a prompt that is too long: before it the output budget counted too.
CONTEXT_LIMIT_WITHOUT_OUTPUT = Version(0, 32, 0)
ALIASES_IN_404 = Version(0, 32, 0)
FINGERPRINT = Version(0, 21, 0)
SHUTDOWN_TIMEOUT = Version(0, 18, 0)
GUARDED_BEYOND_V1 = Version(0, 24, 0)
GPU_MEMORY_DEFAULT_092 = Version(0, 20, 0)
SAGEMAKER_ADAPTERS = Version(0, 11, 1)


def supported(version: Version) -> bool:
    """Whether the tables of this package cover a release (the newest row serves patch releases above it)."""
    return version >= OLDEST and (version.major, version.minor) <= (NEWEST.major, NEWEST.minor)
