"""Checking objects against the OpenAPI description of a Kubernetes version, without a cluster."""

from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]

from tools.helm import KUBERNETES_VERSION

ONLY_WITH_OPERATOR = frozenset({"PodMonitor"})
"""Kinds that Kubernetes itself does not know."""


def invalid(manifest: dict[str, Any]) -> str | None:
    """Why Kubernetes would refuse an object by its schema, or None; unknown fields count."""
    try:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION.rpartition(".")[0], strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{manifest['kind']} {manifest['metadata']['name']}: {error}"
    return None
