"""What the agent tells the activator: the file state.json."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime

from nightshift.api.route import Route
from nightshift.core.gateway.slots import Assignment
from nightshift.core.gateway.state import LiveSlot


def state_file(routes: Iterable[Route], assignment: Assignment, live: Mapping[str, LiveSlot], at: datetime) -> str:
    """The file's content.

    Args:
        routes: All routes.
        assignment: Which slot is whose.
        live: The slots as they are.
        at: When they were read.
    """
    by_route: dict[str, list[str]] = {}
    for key, name in assignment.slots.items():
        if not key.adapter:
            by_route.setdefault(key.route, []).append(name)
    told = {}
    for route in routes:
        slots = {name: live.get(name, LiveSlot()) for name in by_route.get(route.key, ())}
        usable = {name: [one for one in slot.servers.values() if one.usable] for name, slot in slots.items()}
        told[route.key] = {
            "route": route.to_json(),
            "usable": {name: len(found) for name, found in usable.items()},
            "capacity": sum(server.cap for found in usable.values() for server in found),
            "inFlight": sum(slot.connections for slot in slots.values()),
        }
    return json.dumps({"written": at.isoformat(), "routes": told}, sort_keys=True) + "\n"
