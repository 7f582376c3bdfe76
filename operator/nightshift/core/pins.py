"""What adapters were resolved to, as stored: a ControllerRevision for each name, address and revision."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from nightshift.api import names
from nightshift.api.adapters import AdapterPin
from nightshift.core.canonical import short_hash


@dataclass(frozen=True)
class StoredPin:
    """A pin and the ControllerRevision that holds it."""

    pin: AdapterPin
    name: str
    """Of the ControllerRevision."""
    manifest: Mapping[str, Any]

    def name_for(self, deployment: str) -> str:
        """The name that it has if it is that deployment's."""
        return pin_name(deployment, (self.pin.name, self.pin.uri, self.pin.revision))


def pin_name(deployment: str, request: tuple[str, str, str]) -> str:
    """Name of the ControllerRevision of what is asked for: name, address and revision of an adapter."""
    return names.adapter_name(deployment, short_hash(list(request)))


def parse_pin(raw: Mapping[str, Any]) -> StoredPin | None:
    """Read a ControllerRevision; None where it holds no pin."""
    if raw.get("kind") != "ControllerRevision":
        return None
    try:
        pin = AdapterPin.model_validate(raw.get("data"))
    except ValidationError:
        return None
    return StoredPin(pin, raw["metadata"]["name"], raw)
