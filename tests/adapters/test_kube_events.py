"""Reading the Events about one object."""

from nightshift.adapters.kube import KubeClient
from tests.support.kube_wire import FakeApi


async def test_of_the_events_those_about_one_object_are_asked_for(api: FakeApi, client: KubeClient) -> None:
    api.says({"items": [{"reason": "FailedMount"}]})
    assert await client.events_about("ml", "uid-1") == ({"reason": "FailedMount"},)
    (request,) = api.requests
    assert request.path == "/api/v1/namespaces/ml/events"
    assert dict(request.query) == {"fieldSelector": "involvedObject.uid=uid-1", "limit": "100"}
    api.says({"items": None})
    assert await client.events_about("ml", "uid-1") == ()
