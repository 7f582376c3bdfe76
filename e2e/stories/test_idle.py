"""What serves and is not changed costs the API server nothing but the renewal of a Lease."""

import time
from functools import partial

import pytest

from e2e.stories.world import World
from e2e.support.install import GATEWAY_NAMESPACE
from nightshift.api.route import LABEL_ROUTE

NAMES = ("one", "two", "three")
QUIET_SECONDS = 5.0
IDLE_SECONDS = 60.0
"""`python -m bench.idle` measures ten minutes with a hundred of them."""


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_while_nothing_changes_nothing_is_written(world: World) -> None:
    if world.audit is None:
        pytest.skip("the audit log of a cluster given by KUBECONFIG is not ours to read")
    audit = world.audit
    world.given(f"{len(NAMES)} deployments that serve")
    world.apply(*(world.simulated(name) for name in NAMES))
    for name in NAMES:
        world.becomes_ready(name, seconds=120)
        world.eventually(f"the engine of {name} was looked at", partial(world.engine_was_looked_at, name), 90)

    def tidied_up() -> bool | None:
        there = {item["metadata"]["name"] for item in world.client.list("namespaces", "default")}
        routes = world.client.list("configmaps", GATEWAY_NAMESPACE, f"{LABEL_ROUTE}=true")
        return all(route["metadata"]["name"].partition(".")[0] in there for route in routes) or None

    def quiet() -> bool | None:
        mark = audit.mark()
        time.sleep(QUIET_SECONDS)
        return not any(request.of_an_operator and request.writes for request in audit.since(mark)) or None

    world.eventually("nothing of earlier stories is left to tidy up", tidied_up, 120)
    world.eventually("what followed from that is written", quiet, 90)
    world.when(f"nothing is changed for {IDLE_SECONDS:.0f} s")
    mark = audit.mark()
    time.sleep(IDLE_SECONDS)
    own = [request for request in audit.since(mark) if request.of_an_operator]
    written = [
        f"{request.verb} {request.resource} {request.namespace}/{request.name}" for request in own if request.writes
    ]
    renewals = [request for request in own if (request.verb, request.resource) == ("update", "leases")]
    world.then(f"the operators renewed their Lease {len(renewals)} times, and wrote {written or 'nothing else'}")
    assert written == []
    assert len(renewals) >= IDLE_SECONDS / 4, "the log does not tell of the operators"
