"""When an image is built, pushed or refused: against a registry in this process and a storage in memory."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import ClassVar

import pytest

from e2e.cluster.settings import ClusterError, Settings
from e2e.cluster.steps import Steps
from e2e.images import building, catalogue, registry
from e2e.images.building import Builder, check_disk
from e2e.images.catalogue import BASE_NAME, GIB
from e2e.images.storage import INPUTS_LABEL, Program, Storage, StoredImage, staged

KIND = "application/vnd.oci.image.manifest.v1+json"


class RegistryHandler(BaseHTTPRequestHandler):
    """Manifests and blobs by path; enough of the distribution protocol for a build."""

    content: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        body = b"{}" if self.path == "/v2/" else self.content.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", KIND)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def do_PUT(self) -> None:
        assert self.headers["Content-Type"] == KIND
        self.content[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(RegistryHandler, "content", {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), RegistryHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def put_image(reference: str, inputs: str) -> None:
    """What a push leaves in the registry."""
    parsed = registry.Reference.parse(reference)
    config = json.dumps({"config": {"Labels": {INPUTS_LABEL: inputs}}}).encode()
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    manifest = json.dumps({"config": {"digest": digest}}).encode()
    RegistryHandler.content[f"/v2/{parsed.path}/blobs/{digest}"] = config
    RegistryHandler.content[f"/v2/{parsed.path}/manifests/{parsed.tag}"] = manifest


@dataclass
class MemoryStorage:
    """buildah's part: remembers what was asked of it."""

    home: Path
    images: dict[str, str] = field(default_factory=lambda: {BASE_NAME: catalogue.base_checksum()})
    done: list[str] = field(default_factory=list)
    pushed_label: str | None = None

    def find(self, name: str) -> StoredImage | None:
        return StoredImage("id", self.images[name]) if name in self.images else None

    def build(self, name: str, context: Path, dockerfile: Path, checksum: str, extra: list[str], log: Path) -> None:
        assert (context / "operator/nightshift/__main__.py").is_file()
        self.done.append("build")
        self.images[name] = checksum

    def push(self, name: str, target: str, log: Path) -> None:
        self.done.append("push")
        put_image(target, self.pushed_label or self.images[name])

    def pull(self, source: str, log: Path) -> None:
        self.done.append("pull")

    locked = Storage.locked


@pytest.fixture
def storage(tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
    for name in ("KUBECONFIG", "NIGHTSHIFT_IMAGE_TAG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NIGHTSHIFT_IMAGE_PREFIX", f"{host}/nightshift")
    memory = MemoryStorage(tmp_path / "buildah")
    monkeypatch.setattr(Builder, "storage", property(lambda _: memory))
    monkeypatch.setattr(Builder, "_free", lambda _: 100 * GIB)
    return memory


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(Settings(tmp_path), Steps(out=StringIO()))


def test_a_new_image_is_built_pushed_and_named_dev(builder: Builder, storage: MemoryStorage) -> None:
    done = builder.build(["operator"])

    assert storage.done == ["build", "push"]
    assert done == {"operator": catalogue.image("operator", builder.settings)}
    manifests = {path.rpartition("/")[2] for path in RegistryHandler.content if "/manifests/" in path}
    assert manifests == {done["operator"].rpartition(":")[2], "dev"}


def test_an_image_in_the_registry_is_neither_built_nor_pushed(builder: Builder, storage: MemoryStorage) -> None:
    builder.build(["operator"])
    storage.images.clear()

    builder.build(["operator"])

    assert storage.done == ["build", "push"]


def test_a_registry_that_lost_its_images_gets_the_built_one(builder: Builder, storage: MemoryStorage) -> None:
    builder.build(["operator"])
    RegistryHandler.content.clear()

    builder.build(["operator"])

    assert storage.done == ["build", "push", "push"]


def test_a_tag_made_of_other_inputs_is_built_again(builder: Builder, storage: MemoryStorage) -> None:
    reference = catalogue.image("operator", builder.settings)
    put_image(reference, "other inputs")
    storage.images[reference] = "other inputs"

    builder.build(["operator"])

    assert storage.done == ["build", "push"]


def test_a_push_that_another_one_replaced_is_an_error(builder: Builder, storage: MemoryStorage) -> None:
    storage.pushed_label = "somebody else's"

    with pytest.raises(ClusterError, match="not what was pushed"):
        builder.build(["operator"])


def test_without_registry_the_image_is_built_and_said_to_be_not_pushed(
    builder: Builder, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "answers", lambda _: False)

    builder.build(["operator"])

    assert storage.done == ["build"]
    assert isinstance(builder.steps.out, StringIO)
    assert "not pushed" in builder.steps.out.getvalue()


def test_the_registry_is_waited_for(builder: Builder, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter([False, False, True, True])
    monkeypatch.setattr(registry, "answers", lambda _: next(asked))
    monkeypatch.setattr(building, "POLL_SECONDS", 0.001)

    builder.build(["operator"], wait_seconds=60)

    assert storage.done == ["build", "push"]


def test_a_local_image_is_fetched_before_it_is_built(builder: Builder, storage: MemoryStorage) -> None:
    builder.build(["operator"])
    storage.images.clear()
    storage.done.clear()

    builder.local("operator")

    assert storage.done == ["pull"]


def test_nothing_is_built_for_a_cluster_of_the_user(
    builder: Builder, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/theirs")

    assert builder.build(["base", "operator"]) == {"operator": f"{host}/nightshift/operator:dev"}
    assert storage.done == []


def test_too_little_disk_is_refused_before_anything_is_written(
    builder: Builder, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Builder, "_free", lambda _: GIB)

    with pytest.raises(ClusterError, match="takes 2 GiB of disk at its peak, 1 GiB are free") as refused:
        builder.build(["operator"])
    assert "NIGHTSHIFT_HOME" in refused.value.remedy
    assert storage.done == []


def test_disk_that_just_suffices_is_enough() -> None:
    check_disk(25 * GIB, 25 * GIB, "building vllm-cpu")
    with pytest.raises(ClusterError, match="25 GiB"):
        check_disk(25 * GIB, 25 * GIB - 1, "building vllm-cpu")


def test_a_context_holds_the_given_files_with_one_time(tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text("text")
    source.chmod(0o755)

    with staged({"folder/copy.txt": source}, tmp_path / "contexts") as context:
        copy = context / "folder/copy.txt"
        assert copy.read_text() == "text"
        assert os.access(copy, os.X_OK)
        assert copy.stat().st_mtime == 1_600_000_000
        assert [path.name for path in context.rglob("*")] == ["folder", "copy.txt"]
    assert not context.exists()


def test_a_program_gets_its_volumes_read_only_unless_said(tmp_path: Path) -> None:
    program = Program(("python", "-m", "x"), {Path("/a"): "/in", Path("/b"): "/out"}, frozenset({Path("/b")}))

    arguments = program.arguments("c")

    assert arguments[-5:] == ["c", "--", "python", "-m", "x"]
    assert {"--volume=/a:/in:ro", "--volume=/b:/out:rw"} <= set(arguments)
