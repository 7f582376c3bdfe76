"""The registry as far as a build needs it: does it answer, what is a tag made of, move a tag."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass

from .storage import INPUTS_LABEL

MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")


@dataclass(frozen=True)
class Reference:
    """`HOST/PATH:TAG` in its parts."""

    host: str
    path: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Split a reference that has a host and a tag."""
        host, _, rest = text.partition("/")
        path, _, tag = rest.rpartition(":")
        return cls(host, path, tag)

    def manifest_url(self, tag: str | None = None) -> str:
        """Where the manifest of this or of another tag of the same path is."""
        return f"http://{self.host}/v2/{self.path}/manifests/{tag or self.tag}"

    def blob_url(self, digest: str) -> str:
        """Where a blob of this path is."""
        return f"http://{self.host}/v2/{self.path}/blobs/{digest}"


def answers(host: str) -> bool:
    """Whether a registry on plain HTTP answers there."""
    try:
        _get(f"http://{host}/v2/", ())
    except OSError:
        return False
    return True


def recorded_inputs(reference: Reference) -> str | None:
    """The checksum of the inputs that a tag's image was made of; None without image or label."""
    try:
        manifest = json.loads(_get(reference.manifest_url(), MANIFESTS)[0])
        config = json.loads(_get(reference.blob_url(manifest["config"]["digest"]), ())[0])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
    label = (config.get("config", {}).get("Labels") or {}).get(INPUTS_LABEL)
    return str(label) if label else None


def move_tag(reference: Reference, tag: str) -> None:
    """Let another tag of the same path name the same image."""
    body, kind = _get(reference.manifest_url(), MANIFESTS)
    request = urllib.request.Request(
        reference.manifest_url(tag), data=body, method="PUT", headers={"Content-Type": kind}
    )
    with _opener().open(request, timeout=30):
        pass


def _get(url: str, accept: tuple[str, ...]) -> tuple[bytes, str]:
    request = urllib.request.Request(url, headers={"Accept": ", ".join(accept)} if accept else {})
    with _opener().open(request, timeout=30) as response:
        return response.read(), str(response.headers.get("Content-Type") or "")


def _opener() -> urllib.request.OpenerDirector:
    """Without proxies: the registry is on this machine."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
