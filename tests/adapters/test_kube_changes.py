"""What goes over the wire when others' additions are taken away and pods are evicted."""

import pytest

from nightshift.adapters.kube import KubeClient, KubeError, Reference
from tests.support.kube_wire import FakeApi

SET = Reference("apps/v1", "ReplicaSet", "ml", "bot-r1")
POD = Reference("v1", "Pod", "ml", "bot-r1-a")


async def test_a_merge_patch_carries_its_preconditions(api: FakeApi, client: KubeClient) -> None:
    patch = {"metadata": {"uid": "u1", "resourceVersion": "77"}, "spec": {"template": {"spec": {"hostNetwork": None}}}}
    api.says({"kind": "ReplicaSet"})
    assert await client.merge(SET, patch) == {"kind": "ReplicaSet"}
    (request,) = api.requests
    assert (request.method, request.path) == ("PATCH", "/apis/apps/v1/namespaces/ml/replicasets/bot-r1")
    assert request.headers["Content-Type"] == "application/merge-patch+json"
    assert request.query["fieldManager"] == "nightshift"
    assert api.bodies == [patch]


async def test_an_eviction_names_exactly_one_pod(api: FakeApi, client: KubeClient) -> None:
    api.says({"kind": "Status", "status": "Success"}, 201)
    await client.evict(POD, "u1")
    (request,) = api.requests
    assert (request.method, request.path) == ("POST", "/api/v1/namespaces/ml/pods/bot-r1-a/eviction")
    assert api.bodies == [
        {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": "bot-r1-a", "namespace": "ml"},
            "deleteOptions": {"preconditions": {"uid": "u1"}},
        }
    ]


async def test_a_pod_that_is_gone_counts_as_evicted_and_a_budget_that_is_used_up_does_not(
    api: FakeApi, client: KubeClient
) -> None:
    api.refuses(404, "NotFound")
    await client.evict(POD, "u1")
    api.refuses(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.")
    with pytest.raises(KubeError) as caught:
        await client.evict(POD, "u1")
    assert (caught.value.status, caught.value.reason) == (429, "TooManyRequests")
