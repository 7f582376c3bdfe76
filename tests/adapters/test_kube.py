"""The Kubernetes adapter against an API server of a few lines: what goes over the wire, and what comes back."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

from nightshift.adapters import kube as module
from nightshift.adapters.kube import (
    CHILD_KINDS,
    KubeClient,
    KubeError,
    Reference,
    connect,
    object_path,
    plural,
    reference,
)
from nightshift.api import names
from tests.support.kube_wire import FakeApi, client_for

SERVICE = Reference("v1", "Service", "ml", "bot")
MANIFEST = {
    "apiVersion": "apps/v1",
    "kind": "ReplicaSet",
    "metadata": {"name": "bot-r1", "namespace": "ml"},
}


@pytest.mark.parametrize(
    ("where", "subresource", "path"),
    [
        (SERVICE, "", "/api/v1/namespaces/ml/services/bot"),
        (Reference("apps/v1", "ReplicaSet", "ml", "a"), "", "/apis/apps/v1/namespaces/ml/replicasets/a"),
        (Reference("v1", "Pod", "ml", "a"), "log", "/api/v1/namespaces/ml/pods/a/log"),
        (
            Reference(names.API_VERSION, names.KIND, "ml", "bot"),
            "status",
            "/apis/nightshift.dev/v1alpha1/namespaces/ml/llmdeployments/bot/status",
        ),
        (Reference("v1", "Event", "ml", ""), "", "/api/v1/namespaces/ml/events"),
        (Reference("v1", "Pod", "ml", "../../secrets"), "", "/api/v1/namespaces/ml/pods/..%2F..%2Fsecrets"),
    ],
)
def test_the_path_of_an_object(where: Reference, subresource: str, path: str) -> None:
    assert object_path(where, subresource) == path


def test_every_kind_that_is_watched_has_a_resource_name() -> None:
    assert [plural(api_version, kind) for api_version, kind in CHILD_KINDS] == [
        "persistentvolumeclaims",
        "pods",
        "services",
        "serviceaccounts",
        "controllerrevisions",
        "replicasets",
        "jobs",
        "networkpolicies",
        "poddisruptionbudgets",
    ]
    assert reference(MANIFEST) == Reference("apps/v1", "ReplicaSet", "ml", "bot-r1")


async def test_get_reads_an_object_and_none_where_there_is_none(api: FakeApi, client: KubeClient) -> None:
    api.says({"metadata": {"name": "bot"}})
    assert await client.get(SERVICE) == {"metadata": {"name": "bot"}}
    request = api.requests[0]
    assert (request.method, request.path_qs) == ("GET", "/api/v1/namespaces/ml/services/bot")
    assert request.headers["Accept"] == "application/json"
    assert request.headers["User-Agent"] == "nightshift"
    api.refuses(404, "NotFound")
    assert await client.get(SERVICE) is None


async def test_apply_is_server_side_and_takes_over_conflicting_fields(api: FakeApi, client: KubeClient) -> None:
    api.says(MANIFEST)
    assert await client.apply(MANIFEST, "nightshift") == MANIFEST
    request = api.requests[0]
    assert (request.method, request.path) == ("PATCH", "/apis/apps/v1/namespaces/ml/replicasets/bot-r1")
    assert dict(request.query) == {"fieldManager": "nightshift", "force": "true"}
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert api.bodies[0] == MANIFEST


async def test_an_object_is_found_by_the_right_to_list(api: FakeApi, client: KubeClient) -> None:
    api.says({"items": [{"metadata": {"name": "bot"}}]})
    api.says({"items": None})
    found = [await client.find(SERVICE), await client.find(SERVICE)]
    assert found == [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bot"}}, None]
    assert api.requests[0].path_qs == "/api/v1/namespaces/ml/services?fieldSelector=metadata.name%3Dbot"


async def test_a_status_is_applied_to_its_subresource(api: FakeApi, client: KubeClient) -> None:
    manifest = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "bot", "namespace": "ml"}}
    api.says(manifest)
    await client.apply(manifest, names.STATUS_FIELD_MANAGER, "status")
    assert api.requests[0].path.endswith("/llmdeployments/bot/status")
    assert api.requests[0].query["fieldManager"] == "nightshift-status"


async def test_create_and_replace(api: FakeApi, client: KubeClient) -> None:
    api.says(MANIFEST, 201)
    api.says(MANIFEST)
    await client.create(MANIFEST)
    await client.replace(MANIFEST)
    assert [(request.method, request.path) for request in api.requests] == [
        ("POST", "/apis/apps/v1/namespaces/ml/replicasets"),
        ("PUT", "/apis/apps/v1/namespaces/ml/replicasets/bot-r1"),
    ]
    assert all(request.query["fieldManager"] == "nightshift" for request in api.requests)
    assert all(request.headers["Content-Type"] == "application/json" for request in api.requests)


async def test_delete_names_exactly_one_version_of_an_object(api: FakeApi, client: KubeClient) -> None:
    api.says({"kind": "Status", "status": "Success"})
    await client.delete(SERVICE, "u1", "77")
    assert api.requests[0].method == "DELETE"
    assert api.bodies[0]["preconditions"] == {"uid": "u1", "resourceVersion": "77"}
    assert api.bodies[0]["propagationPolicy"] == "Background"


async def test_what_is_gone_already_counts_as_deleted_and_a_changed_object_does_not(
    api: FakeApi, client: KubeClient
) -> None:
    api.refuses(404, "NotFound")
    await client.delete(SERVICE, "u1", "77")
    api.refuses(409, "Conflict", "the ResourceVersion in the precondition (77) does not match")
    with pytest.raises(KubeError) as caught:
        await client.delete(SERVICE, "u1", "77")
    assert (caught.value.status, caught.value.transient) == (409, True)


async def test_list_reads_all_pages_and_says_what_the_items_are(api: FakeApi, client: KubeClient) -> None:
    api.says({"metadata": {"continue": "next=1&2"}, "items": [{"metadata": {"name": "a"}}]})
    api.says({"metadata": {}, "items": [{"metadata": {"name": "b"}}]})
    found = await client.list("apps/v1", "ReplicaSet", "nightshift.dev/deployment")
    assert [item["metadata"]["name"] for item in found] == ["a", "b"]
    assert {(item["apiVersion"], item["kind"]) for item in found} == {("apps/v1", "ReplicaSet")}
    first, second = (dict(request.query) for request in api.requests)
    assert api.requests[0].path == "/apis/apps/v1/replicasets"
    assert first == {"limit": "100", "labelSelector": "nightshift.dev/deployment"}
    assert second == {**first, "continue": "next=1&2"}


async def test_an_empty_list_in_any_spelling(api: FakeApi, client: KubeClient) -> None:
    spellings: list[dict[str, Any]] = [{"metadata": {}, "items": []}, {"metadata": {}, "items": None}, {}]
    for answer in spellings:
        api.says(answer)
        assert await client.list("v1", "Pod") == []
    assert api.requests[0].path_qs == "/api/v1/pods?limit=100"


async def test_a_list_of_one_namespace_asks_for_no_more(api: FakeApi, client: KubeClient) -> None:
    api.says({"items": []})
    await client.list("apps/v1", "ReplicaSet", namespace="ml")
    assert api.requests[0].path == "/apis/apps/v1/namespaces/ml/replicasets"


async def test_a_list_that_expires_between_pages_may_be_tried_again(api: FakeApi, client: KubeClient) -> None:
    api.says({"metadata": {"continue": "x"}, "items": []})
    api.refuses(410, "Expired")
    with pytest.raises(KubeError) as caught:
        await client.list("v1", "Pod")
    assert caught.value.transient


@pytest.mark.parametrize(("status", "served"), [(200, True), (404, False)])
async def test_whether_a_group_is_served(api: FakeApi, client: KubeClient, status: int, served: bool) -> None:
    api.says({}, status)
    assert await client.served(names.API_VERSION) is served
    assert api.requests[0].path == "/apis/nightshift.dev/v1alpha1"


async def test_a_server_that_cannot_say_what_it_serves_is_an_error(api: FakeApi, client: KubeClient) -> None:
    api.refuses(503, "ServiceUnavailable")
    with pytest.raises(KubeError):
        await client.served(names.API_VERSION)


async def test_the_end_of_a_log_is_read_as_text(api: FakeApi, client: KubeClient) -> None:
    api.answers.append(web.Response(body=b"one\ntwo \xff\n"))
    assert await client.log_tail("ml", "bot-1", "model-download", 5) == "one\ntwo \ufffd\n"
    assert api.requests[0].path == "/api/v1/namespaces/ml/pods/bot-1/log"
    query = dict(api.requests[0].query)
    assert (query["container"], query["tailLines"], query["limitBytes"]) == ("model-download", "5", "524288")
    assert "previous" not in query


async def test_the_log_of_a_container_that_ended_is_asked_for(api: FakeApi, client: KubeClient) -> None:
    api.answers.append(web.Response(body=b"gone\n"))
    assert await client.log_tail("ml", "bot-1", "engine", 5, previous=True) == "gone\n"
    assert api.requests[0].query["previous"] == "true"


@pytest.mark.parametrize(
    ("status", "reason", "transient"),
    [
        pytest.param(400, "BadRequest", False, id="a bad request"),
        pytest.param(401, "Unauthorized", False, id="no permission to ask"),
        pytest.param(403, "Forbidden", False, id="no permission"),
        pytest.param(409, "Conflict", True, id="a conflict"),
        pytest.param(410, "Expired", True, id="an expired list"),
        pytest.param(422, "Invalid", False, id="an invalid object"),
        pytest.param(429, "TooManyRequests", True, id="too many requests"),
        pytest.param(500, "InternalError", True, id="an internal error"),
        pytest.param(503, "ServiceUnavailable", True, id="a server that is away"),
        pytest.param(504, "Timeout", True, id="a server that is slow"),
    ],
)
async def test_a_refusal_keeps_status_reason_and_message(
    api: FakeApi, client: KubeClient, status: int, reason: str, transient: bool
) -> None:
    api.refuses(status, reason, "because")
    with pytest.raises(KubeError) as caught:
        await client.apply(MANIFEST, "nightshift")
    error = caught.value
    assert (error.status, error.reason, error.message, error.transient) == (status, reason, "because", transient)
    assert str(error) == f"{status} {reason}: because"


async def test_a_field_that_the_server_does_not_know_is_the_users_mistake_whatever_the_status_says(
    api: FakeApi, client: KubeClient
) -> None:
    text = (
        "failed to create typed patch object (ml/bot-r1; apps/v1, Kind=ReplicaSet): "
        ".spec.template.spec.affinty: field not declared in schema"
    )
    api.says({"kind": "Status", "status": "Failure", "message": text, "code": 500}, 500)
    with pytest.raises(KubeError) as caught:
        await client.apply(MANIFEST, "nightshift")
    assert (caught.value.status, caught.value.transient, caught.value.message) == (422, False, text)


@pytest.mark.parametrize(
    "text", [pytest.param("<html>502</html>", id="a page of a proxy"), pytest.param("[]", id="a list")]
)
async def test_a_refusal_that_no_api_server_wrote_is_kept_as_text(api: FakeApi, client: KubeClient, text: str) -> None:
    api.answers.append(web.Response(status=502, text=text))
    with pytest.raises(KubeError) as caught:
        await client.get(SERVICE)
    assert (caught.value.status, caught.value.message) == (502, text)


@pytest.mark.parametrize("text", ["<html>ok</html>", "[]", ""])
async def test_an_answer_that_is_no_object_is_a_failure_that_may_pass(
    api: FakeApi, client: KubeClient, text: str
) -> None:
    api.answers.append(web.Response(text=text))
    with pytest.raises(KubeError) as caught:
        await client.get(SERVICE)
    assert (caught.value.reason, caught.value.transient) == ("Malformed", True)


async def test_a_server_that_is_not_there_is_a_failure_that_may_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = client_for(f"http://127.0.0.1:{port}")
    with pytest.raises(KubeError) as caught:
        await client.get(SERVICE)
    assert (caught.value.status, caught.value.reason, caught.value.transient) == (0, "Unreachable", True)
    await client.close()


async def test_a_server_that_hangs_up_is_a_failure_that_may_pass(api: FakeApi, client: KubeClient) -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    api.answers.append(hang_up)
    with pytest.raises(KubeError) as caught:
        await client.get(SERVICE)
    assert caught.value.transient


async def test_a_server_that_does_not_answer_is_given_up(
    api: FakeApi, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    monkeypatch.setattr(module, "REQUEST_TIMEOUT_SECONDS", 0.05)
    api.answers.append(hang)
    with pytest.raises(KubeError) as caught:
        await client.get(SERVICE)
    released.set()
    assert (caught.value.reason, caught.value.transient) == ("Unreachable", True)


async def test_the_service_accounts_token_is_read_anew_when_it_rotates(api: FakeApi, tmp_path: Path) -> None:
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    authority.write_text("certificate")
    host, _, port = api.url.removeprefix("http://").partition(":")
    loader = InClusterConfigLoader(
        token_filename=str(token),
        cert_filename=str(authority),
        environ={"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port},
    )
    configuration = Configuration()
    loader.load_and_set(configuration)
    loader.host, loader.ssl_ca_cert = api.url, None
    configuration.ssl_ca_cert = None
    client = KubeClient(ApiClient(configuration))
    for text in ("first", "second"):
        token.write_text(text)
        loader.token_expires_at = loader.token_expires_at.min
        api.says({})
        await client.get(SERVICE)
    assert [request.headers["Authorization"] for request in api.requests] == ["bearer first", "bearer second"]
    token.unlink()
    loader.token_expires_at = loader.token_expires_at.min
    with pytest.raises(KubeError) as caught:
        await client.get(SERVICE)
    assert caught.value.transient, "the kubelet writes it again"
    await client.close()


async def test_outside_a_cluster_the_kubeconfig_says_where_the_server_is(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
                "clusters": [{"name": "here", "cluster": {"server": api.url}}],
                "users": [{"name": "me", "user": {"token": "secret"}}],
            }
        )
    )
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    client = await connect()
    api.says({})
    await client.get(SERVICE)
    assert api.requests[0].headers["Authorization"] == "Bearer secret"
    await client.close()
