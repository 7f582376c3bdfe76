"""States of deployments, as the agent writes them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nightshift.api.gateway_state import RouteState

KEY = "ml/bot"


def entry(
    key: str = KEY,
    usable: int = 0,
    capacity: int | None = None,
    in_flight: int | None = None,
    cap: int = 200,
    timeout: int = 600,
    **route: Any,
) -> dict[str, Any]:
    """One deployment's part of the file; its capacity is 16 per usable replica unless given."""
    namespace, _, name = key.partition("/")
    return {
        "route": {
            "namespace": namespace,
            "name": name,
            "queue": {"maxRequests": cap, "timeoutSeconds": timeout},
            **route,
        },
        "usable": {"be_0": usable},
        "capacity": 16 * usable if capacity is None else capacity,
        "inFlight": in_flight,
    }


def state(key: str = KEY, **given: Any) -> RouteState:
    """The same, read."""
    return RouteState.model_validate(entry(key, **given))


def write(path: Path, *entries: dict[str, Any]) -> None:
    """Replace the file as a whole, as the agent does."""
    routes = {f"{one['route']['namespace']}/{one['route']['name']}": one for one in entries}
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({"written": datetime.now(UTC).isoformat(), "routes": routes}))
    beside.rename(path)
