"""Moments as the API server writes them."""

from datetime import UTC, datetime


def moment(text: str | None) -> datetime | None:
    """A moment from its text; None where there is none or it cannot be read."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo is not None else found.replace(tzinfo=UTC)


def written(at: datetime | None) -> str | None:
    """A moment as text, to whole seconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None
