"""The container beside an engine that fetches adapters: it is told all that is wanted, and says how far each is."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from pydantic import ValidationError

from nightshift.adapters.pod_http import PodServer, Unanswered, expect_ok, pod_session
from nightshift.api import names
from nightshift.api.adapters import AdapterState, AdapterStates, WantedAdapters
from nightshift.core.facts import Fact, Known, Unknown

_PATH = "/adapters"


class Sidecar(Protocol):
    """What is needed of one sidecar."""

    async def sync(self, wanted: WantedAdapters) -> Fact[Mapping[str, AdapterState]]:
        """Tell it all that is wanted; how far each commit is."""


class Sidecars:
    """Clients of sidecars over one session; one for the life of the operator."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Open the session; needs a running event loop."""
        self._session = pod_session()
        self._now = now

    def at(self, pod_ip: str, port: int = names.ADAPTERS_PORT) -> Sidecar:
        """The sidecar of a pod.

        Raises:
            ValueError: The address is no IP address.
        """
        return SidecarClient(PodServer(self._session, pod_ip, port), self._now)

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()


class SidecarClient:
    """One sidecar."""

    def __init__(self, server: PodServer, now: Callable[[], datetime]) -> None:
        """Set up the client."""
        self._server = server
        self._now = now

    async def sync(self, wanted: WantedAdapters) -> Fact[Mapping[str, AdapterState]]:
        """Tell it all that is wanted; how far each commit is. Unknown when it does not answer, or answers nonsense."""
        try:
            answer = await self._server.request("PUT", _PATH, body=wanted.to_json())
            expect_ok(answer, _PATH)
            states = AdapterStates.model_validate_json(answer.body)
        except Unanswered as error:
            return Unknown(f"{self._server.authority}: {error}")
        except ValidationError:
            return Unknown(f"{self._server.authority}: the answer says nothing of adapters.")
        asked = {item.sha for item in wanted.adapters}
        return Known({item.sha: item for item in states.adapters if item.sha in asked}, self._now())
