import base64
import datetime
import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from e2e.cluster import configs, images, objects, pki
from e2e.cluster.components import Component, components
from e2e.cluster.processes import past_proxies
from e2e.cluster.reach import ClusterAccess
from e2e.cluster.settings import PORTS, Settings, default_home, user_kubeconfig
from e2e.cluster.steps import Steps

NOW = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)


def certificate(settings: Settings, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((settings.pki / f"{name}.crt").read_bytes())


def test_certificates_speak_for_the_right_users_and_names(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    assert pki.ensure(settings, NOW) == "made"
    kubelet = certificate(settings, "kubelet")
    subject = {attribute.oid: attribute.value for attribute in kubelet.subject}
    assert subject == {NameOID.ORGANIZATION_NAME: "system:nodes", NameOID.COMMON_NAME: "system:node:nightshift"}
    names = certificate(settings, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name) for name in names.get_values_for_type(x509.IPAddress)] == [
        "127.0.0.1",
        "10.250.0.1",
        "10.250.128.1",
    ]
    authority = certificate(settings, "ca")
    kubelet.verify_directly_issued_by(authority)
    assert isinstance(authority.public_key(), ec.EllipticCurvePublicKey)
    assert (settings.pki / "admin.key").stat().st_mode & 0o077 == 0


def test_certificates_are_kept_until_a_month_before_their_end(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    pki.ensure(settings, NOW)
    before = (settings.pki / "ca.crt").read_bytes()
    assert pki.ensure(settings, NOW + datetime.timedelta(days=300)) == "kept"
    assert (settings.pki / "ca.crt").read_bytes() == before
    assert pki.ensure(settings, NOW + datetime.timedelta(days=340)) == "made"
    assert (settings.pki / "ca.crt").read_bytes() != before


def test_a_set_that_was_interrupted_is_made_again(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    pki.ensure(settings, NOW)
    (settings.pki / "record.json").unlink()
    assert pki.ensure(settings, NOW) == "made"


def test_a_kubeconfig_holds_everything(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    pki.ensure(settings, NOW)
    found = yaml.safe_load(configs.kubeconfig(settings.pki, "admin"))
    assert found["clusters"][0]["cluster"]["server"] == "https://10.250.0.1:6443"
    embedded = base64.b64decode(found["users"][0]["user"]["client-certificate-data"])
    assert embedded == (settings.pki / "admin.crt").read_bytes()


def test_every_file_lies_below_run_and_the_network_is_one(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    pki.ensure(settings, NOW)
    files = configs.files(settings, "image", "nameserver 9.9.9.9\n")
    assert all(path.is_relative_to(settings.run) for path in files)
    network = json.loads(files[settings.config / "cni" / "10-nightshift.conflist"])
    assert network["plugins"][0]["ipam"]["ranges"][0][0]["subnet"] == "10.250.0.0/18"
    assert 'sandbox_image = "image"' in files[settings.config / "containerd.toml"]
    assert yaml.safe_load(files[settings.config / "kubelet.yaml"])["clusterDNS"] == ["10.250.128.10"]


def test_every_component_has_its_files(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    pki.ensure(settings, NOW)
    written = set(configs.files(settings, "image", "")) | set(settings.pki.iterdir())
    for component in components(settings).values():
        assert set(component.inputs) <= written, component.name
        assert component.ready_url or component.ready_command
    assert set(PORTS.values()) <= set(components(settings))


def test_the_control_planes_own_writes_are_audited() -> None:
    rules = yaml.safe_load(configs.audit_policy())["rules"]
    assert rules[-1] == {"level": "Metadata"}
    for rule in rules[:-1]:
        assert rule["level"] == "None"
        assert rule.get("verbs") == ["get", "list", "watch"] or rule["resources"][0]["resources"] == ["leases"]


@pytest.mark.parametrize(
    ("text", "upstream"),
    [("nameserver 9.9.9.9\n", True), ("", False), ("search x\n", False), ("nameserver 10.250.0.1\n", False)],
)
def test_dns_asks_others_only_where_there_are_any(tmp_path: Path, text: str, upstream: bool) -> None:
    assert configs.has_upstream(text) is upstream
    assert ("forward . /etc/resolv.conf" in configs.corefile(Settings(tmp_path), upstream=upstream)) is upstream


def test_a_component_starts_anew_when_its_files_change(tmp_path: Path) -> None:
    program, config = tmp_path / "program", tmp_path / "config"
    program.write_text("p")
    config.write_text("a")
    component = Component("x", (str(program), "--flag"), (config,))
    before = component.fingerprint()
    assert component.fingerprint() == before
    config.write_text("b")
    assert component.fingerprint() != before
    config.write_text("a")
    program.write_text("q")
    assert component.fingerprint() != before


def test_the_image_is_the_same_for_the_same_program() -> None:
    blob = images.layer(b"program")
    assert images.layer(b"program") == blob
    assert images.layer(b"another") != blob
    with tarfile.open(fileobj=io.BytesIO(blob)) as archive:
        entry = archive.getmember("pod")
        assert (entry.mode, entry.uid) == (0o755, 0)
    config = json.loads(images.config(images.digest(blob)))
    assert config["rootfs"]["diff_ids"] == [images.digest(blob)]
    manifest = json.loads(images.manifest(images.config(images.digest(blob)), blob))
    assert manifest["layers"][0] == {"mediaType": images.LAYER_TYPE, "digest": images.digest(blob), "size": len(blob)}


def test_fake_gpus_count_in_capacity_and_allocatable() -> None:
    assert json.loads(objects.gpu_patch(3)) == [
        {"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "3"},
        {"op": "add", "path": "/status/allocatable/nvidia.com~1gpu", "value": "3"},
    ]


def test_a_local_volume_is_bound_to_the_node() -> None:
    volume = objects.local_volume("models", Path("/data"), "1Gi")
    terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == ["nightshift"]
    assert volume["spec"]["storageClassName"] == "local"
    assert volume["spec"]["local"] == {"path": "/data"}


def test_there_is_one_default_storage_class(tmp_path: Path) -> None:
    classes = [item for item in objects.base_objects(Settings(tmp_path)) if item["kind"] == "StorageClass"]
    defaults = [item["metadata"]["name"] for item in classes if item["metadata"]["annotations"]]
    assert sorted(item["metadata"]["name"] for item in classes) == ["local", "scratch"]
    assert defaults == ["scratch"]


def test_containers_that_claim_to_run() -> None:
    def pod(node: str, state: str) -> dict[str, object]:
        status = {"containerStatuses": [{"containerID": "containerd://abc", "state": {state: {}}}]}
        return {"spec": {"nodeName": node}, "status": status}

    assert objects.running_containers({"items": [pod("nightshift", "running")]}) == {"abc"}
    assert objects.running_containers({"items": [pod("nightshift", "terminated"), pod("kwok-1", "running")]}) == set()


def test_readiness_of_a_node() -> None:
    condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2027-01-01T00:00:00Z"}
    assert objects.node_ready_since({"status": {"conditions": [condition]}}) == "2027-01-01T00:00:00Z"
    assert objects.node_ready_since({"status": {"conditions": [condition | {"status": "Unknown"}]}}) is None
    assert objects.node_ready_since({}) is None


def test_the_local_kubeconfig_is_not_the_users_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tmp_path)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert user_kubeconfig(settings) is None
    monkeypatch.setenv("KUBECONFIG", str(settings.kubeconfig))
    assert user_kubeconfig(settings) is None
    monkeypatch.setenv("KUBECONFIG", "/mine")
    assert user_kubeconfig(settings) == "/mine"
    monkeypatch.setenv("KUBECONFIG", f"/mine:{settings.kubeconfig}::/other")
    assert user_kubeconfig(settings) == f"/mine:{settings.kubeconfig}:/other"


LOCAL_KUBECONFIG = "/var/lib/nightshift/run/kubeconfig"


@pytest.mark.parametrize(
    ("uid", "environment", "home"),
    [
        pytest.param(0, {}, "/var/lib/nightshift", id="root's local cluster is the machine's"),
        pytest.param(0, {"KUBECONFIG": ""}, "/var/lib/nightshift", id="an empty KUBECONFIG names no cluster"),
        pytest.param(0, {"KUBECONFIG": LOCAL_KUBECONFIG}, "/var/lib/nightshift", id="nor does that of the local one"),
        pytest.param(0, {"KUBECONFIG": "/mine"}, "/home/ann/.cache/nightshift", id="root with a cluster of their own"),
        pytest.param(1000, {}, "/home/ann/.cache/nightshift", id="a normal user"),
        pytest.param(
            1000,
            {"KUBECONFIG": LOCAL_KUBECONFIG},
            "/home/ann/.cache/nightshift",
            id="a normal user with root's local cluster",
        ),
        pytest.param(1000, {"XDG_CACHE_HOME": "/fast"}, "/fast/nightshift", id="the user's cache is where XDG says"),
        pytest.param(
            1000, {"XDG_CACHE_HOME": "relative"}, "/home/ann/.cache/nightshift", id="but not at a relative path"
        ),
    ],
)
def test_the_home_is_the_users_own_unless_it_is_roots_local_cluster(
    uid: int, environment: dict[str, str], home: str
) -> None:
    assert default_home({"HOME": "/home/ann", **environment}, uid) == Path(home)


@pytest.mark.parametrize("before", [{}, {"NO_PROXY": "intern"}, {"NO_PROXY": "intern", "no_proxy": "intern"}])
def test_what_goes_to_the_local_cluster_passes_proxies(before: dict[str, str]) -> None:
    found = past_proxies(before)
    assert found["NO_PROXY"] == found["no_proxy"]
    assert found["NO_PROXY"].split(",")[-3:] == ["127.0.0.1", "localhost", "10.250.0.0/16"]
    assert found["NO_PROXY"].split(",").count("intern") == min(1, len(before))


def test_only_clients_of_the_local_cluster_are_kept_from_proxies(tmp_path: Path) -> None:
    local = ClusterAccess("/k", Path("kubectl"), Path("helm"), "r", "r/n", plain_http=True, local=True, home=tmp_path)
    assert "10.250.0.0/16" in local.environment()["NO_PROXY"]
    theirs = replace(local, local=False)
    assert theirs.environment() == os.environ | {"KUBECONFIG": "/k"}


def test_steps_print_and_keep_their_times(tmp_path: Path) -> None:
    out = io.StringIO()
    steps = Steps(out=out)
    with steps.step("etcd") as step:
        step.note = "started"
    with pytest.raises(ValueError, match="no"), steps.step("kubelet"):
        raise ValueError("no")
    first, second = out.getvalue().splitlines()
    assert first.startswith("[   0.0s] etcd ... started (")
    assert "kubelet ... FAILED" in second
    steps.write(tmp_path / "timings.json", "up")
    record = json.loads((tmp_path / "timings.json").read_text())
    assert [entry["step"] for entry in record["steps"]] == ["etcd"]
