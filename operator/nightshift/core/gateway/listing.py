"""What `GET /v1/models` lists."""

from collections.abc import Iterable
from typing import Any

from nightshift.api.route import Route
from nightshift.core.gateway.maps import model_names


def models_of(routes: Iterable[Route], only: str | None) -> list[dict[str, Any]]:
    """Models as OpenAI's API lists them; those at zero too, for a request wakes them.

    Args:
        routes: All routes.
        only: The route that was asked by its path or Host: its names are those that its engine knows. None: all
            names that the shared address takes.
    """
    found = {route.key: route for route in routes}
    if only is not None:
        route = found.get(only)
        return [] if route is None else _own(route)
    entries = []
    for name, key in sorted(model_names(found).items()):
        parent = None if name == key or name in found[key].short_names else key
        entries.append(_entry(name, found[key].served_name if parent is None else name, parent))
    return entries


def _own(route: Route) -> list[dict[str, Any]]:
    adapters = [_entry(adapter.name, adapter.name, route.served_name) for adapter in route.adapters]
    return [_entry(route.served_name, route.served_name, None), *adapters]


def _entry(name: str, root: str, parent: str | None) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "nightshift", "root": root, "parent": parent}
