"""The cluster's own image: one static program, put straight into the local registry."""

import hashlib
import io
import json
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from .builds import recorded_hash
from .settings import REGISTRY, Settings

REPOSITORY = "nightshift-cluster/pod"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def reference(settings: Settings) -> str:
    """The image's name; its tag follows from the program, so a change of it is a new image."""
    return f"{REGISTRY}/{REPOSITORY}:{_tag(settings)}"


def _tag(settings: Settings) -> str:
    return recorded_hash(settings.bin / "pod")[:12]


def layer(program: bytes) -> bytes:
    """An uncompressed layer with the program as ``/pod``; the same bytes for the same program."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("pod")
        entry.size, entry.mode = len(program), 0o755
        archive.addfile(entry, io.BytesIO(program))
    return buffer.getvalue()


def digest(blob: bytes) -> str:
    """The name of a blob in a registry."""
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def config(layer_digest: str) -> bytes:
    """The image's configuration: a non-root user, the program as entrypoint."""
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"User": "65532:65532", "Entrypoint": ["/pod"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        }
    ).encode()


def manifest(config_blob: bytes, layer_blob: bytes) -> bytes:
    """The OCI manifest of the two blobs."""

    def descriptor(kind: str, blob: bytes) -> dict[str, str | int]:
        return {"mediaType": kind, "digest": digest(blob), "size": len(blob)}

    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, config_blob),
            "layers": [descriptor(LAYER_TYPE, layer_blob)],
        }
    ).encode()


def _request(method: str, url: str, body: bytes | None = None, kind: str = "application/octet-stream") -> str:
    """Send one request; returns the Location header."""
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": kind, "Accept": kind})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        return str(response.headers.get("Location") or "")


def _exists(url: str, kind: str) -> bool:
    try:
        _request("HEAD", url, kind=kind)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return False
        raise
    return True


def push(settings: Settings) -> str:
    """Make sure that the registry has the image."""
    base = f"http://{REGISTRY}/v2/{REPOSITORY}"
    if _exists(f"{base}/manifests/{_tag(settings)}", MANIFEST_TYPE):
        return "present"
    layer_blob = layer(_program(settings.bin / "pod"))
    config_blob = config(digest(layer_blob))
    for blob in (layer_blob, config_blob):
        location = _request("POST", f"{base}/blobs/uploads/", b"")
        separator = "&" if urllib.parse.urlparse(location).query else "?"
        _request("PUT", f"{location}{separator}digest={urllib.parse.quote(digest(blob))}", blob)
    _request("PUT", f"{base}/manifests/{_tag(settings)}", manifest(config_blob, layer_blob), MANIFEST_TYPE)
    return "pushed"


def _program(path: Path) -> bytes:
    return path.read_bytes()
