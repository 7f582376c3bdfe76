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
        assert item["metadata"].get("namespace", NAMESPACE) == NAMESPACE
        assert "helm" not in yaml.safe_dump(item["metadata"]).lower()


def test_its_operator_is_restricted_and_configured() -> None:
    pod = only(objects(), "Deployment")["spec"]["template"]["spec"]
    assert restricted_violations(pod) == []
    assert operator_config(objects()).namespace == NAMESPACE


def test_a_forgotten_image_cannot_be_pulled_from_anyone() -> None:
    image = only(objects(), "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith(f"{PLACEHOLDER_IMAGE}:")
    assert PLACEHOLDER_IMAGE.split("/")[0].endswith(".invalid")
