"""The agent of one gateway pod: what is asked of each deployment at the moment."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Protocol

from pydantic import ValidationError

from nightshift.adapters.pod_http import PodServer, Unanswered, expect_ok, pod_session
from nightshift.api.demand import ALL_RESULTS, DEMAND_PATH, RESULTS_QUERY, GatewayDemand
from nightshift.core.facts import Fact, Known, Unknown

ANSWER_BYTES = 4 * 1024 * 1024
"""Some 100 bytes for each of a few thousand deployments, and 400 for each revision that results are asked of."""

NAMED_RESULTS = 40
"""Of more deployments the results of all are asked for: a request's first line has no room for more names."""

ANSWER_SECONDS = 1.5
"""Less than the time between two questions."""


class GatewayPod(Protocol):
    """What is needed of one gateway pod."""

    async def demand(self, pod: str, results: Collection[str] = ()) -> Fact[GatewayDemand]:
        """What is asked of each deployment, as this pod sees it; and how requests to some of them ended."""


class GatewayPods:
    """Clients of gateway pods over one session; one for the life of the operator."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Open the session; needs a running event loop."""
        self._session = pod_session()
        self._now = now

    def at(self, pod_ip: str, port: int) -> GatewayPod:
        """The agent of a pod.

        Raises:
            ValueError: The address is no IP address.
        """
        return GatewayPodClient(PodServer(self._session, pod_ip, port), self._now)

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()


class GatewayPodClient:
    """One gateway pod."""

    def __init__(self, server: PodServer, now: Callable[[], datetime]) -> None:
        """Set up the client."""
        self._server = server
        self._now = now

    async def demand(self, pod: str, results: Collection[str] = ()) -> Fact[GatewayDemand]:
        """What is asked of each deployment. Unknown when it does not answer, answers nonsense, or is another pod.

        Args:
            pod: Its name.
            results: Deployments (NAMESPACE/NAME) of whose revisions it is also asked how requests ended. An older
                gateway does not say.
        """
        names = sorted(results) if len(results) <= NAMED_RESULTS else [ALL_RESULTS]
        query = tuple((RESULTS_QUERY, name) for name in names)
        try:
            answer = await self._server.request("GET", DEMAND_PATH, ANSWER_BYTES, seconds=ANSWER_SECONDS, query=query)
            expect_ok(answer, DEMAND_PATH)
            told = GatewayDemand.model_validate_json(answer.body)
        except Unanswered as error:
            return Unknown(f"{self._server.authority}: {error}")
        except ValidationError:
            return Unknown(f"{self._server.authority}: the answer says nothing of demand.")
        if told.pod != pod:
            return Unknown(f"{self._server.authority}: another pod answers there ({told.pod[:63]}).")
        return Known(told, self._now())
