"""install.yaml: what plain kubectl applies."""

from typing import Any

import yaml

from tests.chart.pod_security import restricted_violations
from tests.chart.rendering import only, operator_config
from tests.chart.validation import invalid
from tools.manifests import NAMESPACE, PLACEHOLDER_IMAGE
from tools.repository import ROOT


def objects() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "install.yaml").read_text()))


def test_it_begins_with_a_namespace_that_enforces_the_restricted_standard() -> None:
    first = objects()[0]
    assert (first["kind"], first["metadata"]["name"]) == ("Namespace", NAMESPACE)
    assert first["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_object_is_valid_and_none_is_helms() -> None:
    for item in objects():
        assert invalid(item) is None
        assert item["metadata"].get("namespace", NAMESPACE) in (NAMESPACE, f"{NAMESPACE}-gateway")
        assert "helm" not in yaml.safe_dump(item["metadata"]).lower()


def test_its_operator_is_restricted_and_configured() -> None:
    pod = only(objects(), "Deployment", "nightshift")["spec"]["template"]["spec"]
    assert restricted_violations(pod) == []
    assert operator_config(objects()).namespace == NAMESPACE


def test_a_forgotten_image_cannot_be_pulled_from_anyone() -> None:
    deployments = [item for item in objects() if item["kind"] == "Deployment"]
    images = {found["image"] for item in deployments for found in item["spec"]["template"]["spec"]["containers"]}
    assert {image.partition(":")[0] for image in images} == {
        PLACEHOLDER_IMAGE,
        PLACEHOLDER_IMAGE.replace("operator", "gateway"),
    }
    assert PLACEHOLDER_IMAGE.split("/")[0].endswith(".invalid")


def test_the_gateways_namespace_comes_before_what_lies_in_it_and_enforces_the_restricted_standard() -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in objects()]
    place = names.index(("Namespace", f"{NAMESPACE}-gateway"))
    assert objects()[place]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    inside = [n for n, item in enumerate(objects()) if item["metadata"].get("namespace") == f"{NAMESPACE}-gateway"]
    assert min(inside) > place
