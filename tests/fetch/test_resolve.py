import shutil
from pathlib import Path

import pytest

from e2e.hub.running import RunningHub
from nightshift.api.fetch import FetchReason
from nightshift.fetch.__main__ import main
from tests.fetch.conftest import WEIGHTS, Fetch


def add_branch(root: Path, branch: str) -> None:
    other = root / "acme" / f"tiny@{branch}"
    shutil.copytree(root / "acme" / "tiny", other)
    (other / "config.json").write_text('{"model_type": "other"}')


def test_a_branch_a_tag_and_a_commit_are_resolved(fetch: Fetch, hub: RunningHub, root: Path) -> None:
    add_branch(root, "v2")
    main_commit, tagged = fetch.resolve().resolved, fetch.resolve("v2").resolved
    assert main_commit.sha != tagged.sha
    assert fetch.resolve(tagged.sha).resolved == tagged
    assert main_commit.files == 3
    assert main_commit.bytes == len(WEIGHTS) + len('{"model_type": "tiny"}') + len("{}")


def test_a_moved_branch_is_followed_and_the_old_commit_stays(fetch: Fetch, hub: RunningHub, root: Path) -> None:
    before = fetch.resolve().resolved.sha
    add_branch(root, "main")
    assert fetch.resolve().resolved.sha != before
    assert fetch.resolve(before).resolved.sha == before


@pytest.mark.parametrize(
    ("uri", "revision", "reason"),
    [
        ("hf://acme/none", "main", FetchReason.MODEL_NOT_FOUND),
        ("hf://acme/tiny", "none", FetchReason.MODEL_REVISION_NOT_FOUND),
        ("hf://acme/tiny", "f" * 40, FetchReason.MODEL_REVISION_NOT_FOUND),
        ("hf://acme/tiny", "refs/pr/1", FetchReason.MODEL_REVISION_NOT_FOUND),
    ],
)
def test_what_does_not_exist_is_named(
    fetch: Fetch, hub: RunningHub, uri: str, revision: str, reason: FetchReason
) -> None:
    assert fetch.resolve(revision, uri).failed.reason is reason


def test_a_gated_model_without_a_token_is_told_before_anything_is_downloaded(
    fetch: Fetch, hub: RunningHub, root: Path
) -> None:
    (root / "acme" / "tiny" / ".gated").write_text("hf_good")
    failed = fetch.resolve().failed
    assert failed.reason is FetchReason.MODEL_ACCESS_DENIED
    assert "set spec.model.tokenSecretRef" in failed.message
    assert fetch.resolve(token="hf_good\n").resolved.files == 3


def test_a_wrong_token_is_told_and_never_shown(fetch: Fetch, hub: RunningHub) -> None:
    ended = fetch.resolve(token="hf_wrongwrongwrong")
    assert ended.failed.reason is FetchReason.MODEL_ACCESS_DENIED
    assert "hf_wrong" not in ended.output


@pytest.mark.parametrize("token", ["hf_two\nlines", "hf_ünicode", "user hf_x"])
def test_a_secret_that_holds_no_token_is_told_and_never_shown(fetch: Fetch, hub: RunningHub, token: str) -> None:
    ended = fetch.resolve(token=token)
    assert ended.failed.reason is FetchReason.MODEL_ACCESS_DENIED
    assert "characters that no token has" in ended.failed.message
    assert token not in ended.output
    assert hub.asked() == []


def test_an_unexpected_error_shows_no_token(fetch: Fetch, hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("header 'Bearer hf_secretsecret' is odd")

    monkeypatch.setattr("nightshift.fetch.resolve.resolve", explode)
    ended = fetch.resolve(token="hf_secretsecret")
    assert (ended.status, ended.outcome) == (1, None)
    assert "RuntimeError" in ended.output
    assert "hf_secret" not in ended.output


def test_a_hub_in_trouble_is_asked_again(fetch: Fetch, hub: RunningHub) -> None:
    hub.faults({"match": "/api/*/revision/*", "status": 503, "times": 1})
    assert fetch.resolve().resolved.files == 3


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"status": 200}], ids=str)
def test_a_hub_that_stays_in_trouble_is_unreachable(fetch: Fetch, hub: RunningHub, fault: dict[str, object]) -> None:
    hub.faults(fault)
    failed = fetch.resolve(deadline_seconds=0.8).failed
    assert failed.reason is FetchReason.HUB_UNREACHABLE
    assert "within 0.8 s" in failed.message


def test_nobody_listening_is_unreachable(fetch: Fetch, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused_tcp_port}")
    failed = fetch.resolve(deadline_seconds=2).failed
    assert failed.reason is FetchReason.HUB_UNREACHABLE
    assert "refused" in failed.message


def test_a_repository_without_weights_is_told(fetch: Fetch, hub: RunningHub, root: Path) -> None:
    model = root / "acme" / "tiny"
    (model / "model.safetensors").rename(model / "model.gguf")
    (model / "pytorch_model.bin").unlink()
    failed = fetch.resolve().failed
    assert failed.reason is FetchReason.MODEL_NOT_FOUND
    assert "no weights that vLLM loads" in failed.message


@pytest.mark.parametrize(
    "argv",
    [
        ["resolve", "--uri", "pvc://claim/path"],
        ["resolve", "--uri", "hf://alone"],
        ["resolve", "--uri", "hf://a/b", "--deadline-seconds", "0"],
        ["download", "--uri", "hf://a/b", "--sha", "main", "--to", "x"],
        ["download", "--uri", "hf://a/b", "--to", "x"],
    ],
)
def test_wrong_arguments_are_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
