import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session

from e2e.hub.running import RunningHub
from nightshift.adapters.hub import ContentDigest, Hub, HubFile, HubRefused, HubUnavailable
from nightshift.api.fetch import FetchReason

WEIGHTS = bytes(range(256)) * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    model = tmp_path / "acme" / "tiny"
    (model / "sub").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(WEIGHTS)
    (model / "sub" / "a.json").write_text("[]")
    return tmp_path


@pytest.fixture
def hub(root: Path) -> Iterator[RunningHub]:
    with RunningHub(root, page_size=2) as running:
        yield running
        close_session()


def weights(client: Hub) -> tuple[str, HubFile]:
    sha = client.resolve("acme/tiny", "main")
    return sha, next(f for f in client.list_files("acme/tiny", sha) if f.path == "model.safetensors")


def read(client: Hub, present: bytes = b"") -> bytes:
    sha, file = weights(client)
    target, digest = io.BytesIO(), ContentDigest(file)
    target.write(present)
    digest.update(present)
    client.read_into("acme/tiny", sha, file, target, digest, lambda _: None)
    assert digest.matches() == (target.getvalue() == WEIGHTS)
    return target.getvalue()


def refusal(call: object) -> HubRefused:
    assert callable(call)
    with pytest.raises(HubRefused) as caught:
        call()
    return caught.value


def test_lists_every_page_with_the_digests_that_the_hub_gives(hub: RunningHub) -> None:
    client = Hub(hub.url)
    files = client.list_files("acme/tiny", client.resolve("acme/tiny", "main"))
    assert [(file.path, file.size, file.sha256 is None) for file in files] == [
        ("config.json", 2, True),
        ("model.safetensors", len(WEIGHTS), False),
        ("sub/a.json", 2, True),
    ]
    # git hash-object of a file that holds {}
    assert files[0].git_oid == "9e26dfeeb6e641a33dae4961196235bdb965b21b"
    assert len(hub.asked("/tree/")) == 2


def test_reads_a_whole_file(hub: RunningHub) -> None:
    assert read(Hub(hub.url)) == WEIGHTS


def test_goes_on_where_a_file_ends(hub: RunningHub) -> None:
    assert read(Hub(hub.url), WEIGHTS[:1000]) == WEIGHTS
    assert [asked.range for asked in hub.asked("/_cdn/")] == ["bytes=1000-"]


def test_goes_on_when_the_server_ignores_ranges(hub: RunningHub) -> None:
    hub.faults({"match": "/_cdn/*", "ignore_range": True})
    assert read(Hub(hub.url), WEIGHTS[:100_000]) == WEIGHTS


def test_a_damaged_start_is_noticed_at_the_end(hub: RunningHub) -> None:
    assert read(Hub(hub.url), b"x" * 1000) == b"x" * 1000 + WEIGHTS[1000:]


def test_a_server_that_sends_more_than_it_lists_is_refused(hub: RunningHub, root: Path) -> None:
    client = Hub(hub.url)
    sha, file = weights(client)
    smaller = HubFile(file.path, file.size - 1, file.git_oid, file.sha256)
    failure = refusal(
        lambda: client.read_into("acme/tiny", sha, smaller, io.BytesIO(), ContentDigest(smaller), lambda _: None)
    )
    assert failure.reason is FetchReason.MODEL_CORRUPT


def test_the_token_does_not_leave_the_hub(hub: RunningHub, root: Path) -> None:
    (root / ".tokens").write_text("hf_good\n")
    read(Hub(hub.url, "hf_good"))
    assert all(asked.authorized for asked in hub.asked("/acme/tiny/"))
    assert [asked.authorized for asked in hub.asked("/_cdn/")] == [False]


def test_a_cut_connection_is_worth_another_try_and_keeps_what_came(hub: RunningHub) -> None:
    hub.faults({"match": "/_cdn/*", "cut_after_bytes": 100_000, "times": 1})
    client = Hub(hub.url)
    sha, file = weights(client)
    target, digest = io.BytesIO(), ContentDigest(file)
    with pytest.raises(HubUnavailable):
        client.read_into("acme/tiny", sha, file, target, digest, lambda _: None)
    assert 0 < target.tell() <= 100_000
    client.read_into("acme/tiny", sha, file, target, digest, lambda _: None)
    assert target.getvalue() == WEIGHTS
    assert digest.matches()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_in_trouble_is_worth_another_try(hub: RunningHub, status: int) -> None:
    hub.faults({"match": "/api/*", "status": status})
    with pytest.raises(HubUnavailable, match=str(status)):
        Hub(hub.url).resolve("acme/tiny", "main")


def test_a_page_that_is_not_the_hubs_is_worth_another_try(hub: RunningHub) -> None:
    hub.faults({"match": "/api/*", "status": 200})
    with pytest.raises(HubUnavailable, match="not the Hub's"):
        Hub(hub.url).resolve("acme/tiny", "main")


def test_nobody_listening_is_worth_another_try(unused_tcp_port: int) -> None:
    with pytest.raises(HubUnavailable):
        Hub(f"http://127.0.0.1:{unused_tcp_port}").resolve("acme/tiny", "main")


def test_offline_mode_is_named(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubUnavailable, match="HF_HUB_OFFLINE is set"):
        Hub(hub.url).resolve("acme/tiny", "main")
    assert hub.asked() == []


def test_every_request_has_a_time_limit(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's listing asks for none by itself."""
    import httpx2

    seen: list[dict[str, float]] = []
    send = httpx2.HTTPTransport.handle_request

    def handle(self: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
        seen.append(request.extensions["timeout"])
        return send(self, request)

    monkeypatch.setattr(httpx2.HTTPTransport, "handle_request", handle)
    client = Hub(hub.url)
    sha, file = weights(client)
    client.check_access("acme/tiny", sha, file)
    read(client)
    assert len(seen) >= 6
    assert all(0 < limit.get(kind, 0) <= 30 for limit in seen for kind in ("connect", "read", "write", "pool"))


def test_a_gated_model_lists_its_files_but_does_not_give_them(hub: RunningHub, root: Path) -> None:
    (root / "acme" / "tiny" / ".gated").write_text("hf_good\n")
    (root / ".tokens").write_text("hf_other\n")
    nobody, other, good = Hub(hub.url), Hub(hub.url, "hf_other"), Hub(hub.url, "hf_good")
    sha, file = weights(nobody)
    without = refusal(lambda: nobody.check_access("acme/tiny", sha, file))
    assert without.reason is FetchReason.MODEL_ACCESS_DENIED
    assert without.message == (
        "Repository acme/tiny is gated and no token was given; accept its terms on the Hub and set "
        "spec.model.tokenSecretRef."
    )
    wrong = refusal(lambda: other.check_access("acme/tiny", sha, file))
    assert wrong.reason is FetchReason.MODEL_ACCESS_DENIED
    assert "has no access" in wrong.message
    good.check_access("acme/tiny", sha, file)


def test_an_invalid_token_is_named_and_not_shown(hub: RunningHub) -> None:
    failure = refusal(lambda: Hub(hub.url, "hf_invalid").resolve("acme/tiny", "main"))
    assert failure.reason is FetchReason.MODEL_ACCESS_DENIED
    assert "refused the token of spec.model.tokenSecretRef" in failure.message
    assert "hf_invalid" not in failure.message


def test_a_private_model_looks_like_none_without_its_token(hub: RunningHub, root: Path) -> None:
    (root / "acme" / "tiny" / ".private").write_text("hf_good\n")
    failure = refusal(lambda: Hub(hub.url).resolve("acme/tiny", "main"))
    assert failure.reason is FetchReason.MODEL_NOT_FOUND
    assert "or it is private and no token was given" in failure.message
    assert len(Hub(hub.url, "hf_good").resolve("acme/tiny", "main")) == 40


def test_a_missing_revision_and_file_are_told_apart(hub: RunningHub) -> None:
    client = Hub(hub.url)
    assert refusal(lambda: client.resolve("acme/tiny", "v2")).reason is FetchReason.MODEL_REVISION_NOT_FOUND
    assert refusal(lambda: client.list_files("acme/tiny", "f" * 40)).reason is (FetchReason.MODEL_REVISION_NOT_FOUND)
    sha, _ = weights(client)
    gone = HubFile("gone.json", 1, "0" * 40, None)
    assert refusal(lambda: client.check_access("acme/tiny", sha, gone)).reason is FetchReason.MODEL_CORRUPT


def test_a_name_that_the_client_refuses_is_not_found(hub: RunningHub) -> None:
    failure = refusal(lambda: Hub(hub.url).resolve("acme/ti..ny", "main"))
    assert failure.reason is FetchReason.MODEL_NOT_FOUND


def test_the_stock_client_takes_the_local_server_for_a_hub(hub: RunningHub, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    target = tmp_path / "snapshot"
    snapshot_download("acme/tiny", endpoint=hub.url, local_dir=target, token=False)
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert (target / "sub" / "a.json").read_text() == "[]"
