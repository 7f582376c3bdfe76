"""Wake Leases: how a gateway pod says that requests wait for a deployment without a replica.

Each gateway pod renews a Lease of its own per deployment, in its own namespace. Any of them that has not run out is
demand. They also keep how long starts took, which thereby outlives the pods.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, Field, ValidationError

from nightshift.api import names
from nightshift.api.base import StoredModel

API_VERSION = "coordination.k8s.io/v1"
KIND = "Lease"

LABEL_WAKE = f"{names.GROUP}/wake"
LABEL_NAMESPACE = names.LABEL_NAMESPACE
SELECTOR = f"{LABEL_WAKE}=true"

ANNOTATION_HELD = f"{names.GROUP}/held"
"""Requests that wait in this gateway pod."""

ANNOTATION_OLDEST = f"{names.GROUP}/oldest-seconds"
"""For how long the oldest of them has been waiting, in whole seconds."""

ANNOTATION_TYPICAL = f"{names.GROUP}/typical-start-seconds"
"""The median of the last starts, in seconds, as this gateway pod saw them."""

ANNOTATION_STARTS = f"{names.GROUP}/start-seconds"
"""The last starts themselves, oldest first, in seconds, separated by commas."""

LEASE_SECONDS = 15
"""Demand ends so long after the last renewal."""


class Wake(StoredModel):
    """A wake Lease as read."""

    object_name: str
    namespace: str
    """Of the deployment."""
    name: str
    """Of the deployment."""
    renewed: AwareDatetime
    lease_seconds: int = Field(ge=1)
    held: int = Field(default=0, ge=0)
    oldest_seconds: float = Field(default=0, ge=0, allow_inf_nan=False)
    typical_start_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    starts: str = ""
    """As in ANNOTATION_STARTS; read by core.gateway.starts."""
    uid: str = ""
    resource_version: str = ""

    @property
    def expires(self) -> datetime:
        """When it stops being demand, unless it is renewed."""
        return self.renewed + timedelta(seconds=self.lease_seconds)


def parse_wake(raw: Mapping[str, Any]) -> Wake | None:
    """Read a Lease; None where it is no wake Lease, or malformed."""
    metadata, spec = raw.get("metadata") or {}, raw.get("spec") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if labels.get(LABEL_WAKE) != "true":
        return None
    fields = {
        "objectName": metadata.get("name"),
        "namespace": labels.get(LABEL_NAMESPACE),
        "name": labels.get(names.LABEL_DEPLOYMENT),
        "renewed": spec.get("renewTime"),
        "leaseSeconds": spec.get("leaseDurationSeconds"),
        "held": annotations.get(ANNOTATION_HELD),
        "oldestSeconds": annotations.get(ANNOTATION_OLDEST),
        "typicalStartSeconds": annotations.get(ANNOTATION_TYPICAL),
        "starts": annotations.get(ANNOTATION_STARTS),
        "uid": metadata.get("uid"),
        "resourceVersion": metadata.get("resourceVersion"),
    }
    try:
        return Wake.model_validate({key: value for key, value in fields.items() if value is not None})
    except ValidationError:
        return None
