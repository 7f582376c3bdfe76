"""Rendering the chart once per set of values, and picking objects out of what came."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import yaml

from nightshift.api.config import OperatorConfig
from tools.helm import render

IMAGE = "image.repository=registry.example.com/nightshift/operator"
DIGEST = "sha256:" + "1f" * 32
MONITORED = (
    "podMonitor.enabled=true",
    "scrapers[0].namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name=monitoring",
)
VARIANTS: dict[str, tuple[str, ...]] = {
    "default values": (IMAGE,),
    "another namespace": (IMAGE, "namespaceOverride=elsewhere"),
    "an image by digest": (IMAGE, f"image.digest={DIGEST}", "image.tag=ignored"),
    "metrics scraped": (IMAGE, *MONITORED),
    "everything optional off": (
        IMAGE,
        "gateway.enabled=false",
        "crds.enabled=false",
        "rbac.aggregate=false",
        "podDisruptionBudget.enabled=false",
        "networkPolicy.enabled=false",
    ),
    "everything optional set": (
        IMAGE,
        *MONITORED,
        "imagePullSecrets[0].name=pull",
        "hubEndpoint=http://hub.example.com",
        "clusterDomain=corp.internal",
        "insecureRegistries[0]=registry.example.com:5000",
        "nodeSelector.zone=a",
        "tolerations[0].operator=Exists",
        "priorityClassName=system-cluster-critical",
        "podAnnotations.team=ml",
        "podLabels.team=ml",
        "serviceAccount.annotations.team=ml",
        "gateway.namespace=models",
        "gateway.imagePullSecrets[0].name=pull",
        "gateway.image.repository=registry.example.com/other/gateway",
        f"gateway.image.digest={DIGEST}",
        "gateway.service.port=8080",
        "gateway.shortNames={ml/bot}",
        "gateway.admitPeers[0].ipBlock.cidr=203.0.113.0/24",
        "gateway.drainSeconds=60",
        "gateway.nodeSelector.zone=a",
        "gateway.tolerations[0].operator=Exists",
        "gateway.priorityClassName=system-cluster-critical",
        "gateway.podAnnotations.team=ml",
        "gateway.podLabels.team=ml",
    ),
}


@cache
def rendered(variant: str) -> tuple[dict[str, Any], ...]:
    """The objects of a variant."""
    return tuple(render(VARIANTS[variant]))


def only(objects: Iterable[dict[str, Any]], kind: str, suffix: str = "") -> dict[str, Any]:
    """The one object of a kind, or the one whose name ends so."""
    (found,) = [item for item in objects if item["kind"] == kind and item["metadata"]["name"].endswith(suffix)]
    return found


def operator_config(objects: Iterable[dict[str, Any]]) -> OperatorConfig:
    """The operator's configuration as its process would read it."""
    return OperatorConfig.model_validate(yaml.safe_load(only(objects, "ConfigMap")["data"]["config.yaml"]))
