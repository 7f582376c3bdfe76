"""kstatus' rules for custom resources: how Helm 4, Flux and Argo CD's checks read a status.

Source: sigs.k8s.io/cli-utils, pkg/kstatus/status/generic.go and README.
"""

from typing import Any, Literal

Verdict = Literal["Terminating", "InProgress", "Failed", "Current"]


def verdict(resource: dict[str, Any]) -> Verdict:
    """What kstatus makes of a resource.

    Worked example: metadata.generation 2 with status.observedGeneration 1 is InProgress, whatever the
    conditions say.
    """
    metadata, status = resource["metadata"], resource.get("status") or {}
    if "deletionTimestamp" in metadata:
        return "Terminating"
    observed = status.get("observedGeneration")
    if observed is not None and observed != metadata.get("generation"):
        return "InProgress"
    conditions = status.get("conditions") or []
    for condition in conditions:
        if condition["type"] == "Reconciling" and condition["status"] == "True":
            return "InProgress"
        if condition["type"] == "Stalled" and condition["status"] == "True":
            return "Failed"
    ready = next((item for item in conditions if item["type"] == "Ready"), None)
    if ready is not None and ready["status"] == "False":
        return "InProgress"
    return "Current"
