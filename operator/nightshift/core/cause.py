"""Why something does not go on: the value that every finding comes down to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """Why something does not go on."""

    reason: str
    """CamelCase, used as the reason of conditions."""
    message: str
    """What happened, why, and what to do next."""
    definite: bool
    """True where waiting does not help and a person must change something."""
