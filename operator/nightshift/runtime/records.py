"""Recording Events about an LLMDeployment."""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from nightshift.adapters.kube import Kube, KubeError
from nightshift.api import names
from nightshift.core.canonical import short_hash
from nightshift.core.events import EventNote
from nightshift.runtime.telemetry import WRITES

logger = logging.getLogger(__name__)

_MESSAGE_LIMIT = 1024


async def record_event(kube: Kube, body: Mapping[str, Any], note: EventNote, now: datetime) -> None:
    """Record an Event. One that cannot be recorded is logged: it never stops a reconcile."""
    metadata = body["metadata"]
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    suffix = short_hash([metadata["uid"], note.type, note.reason, note.message, now.isoformat()], 12)
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{suffix}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": note.type,
        "reason": note.reason,
        "message": note.message[:_MESSAGE_LIMIT],
        "source": {"component": names.FIELD_MANAGER},
        "reportingComponent": names.FIELD_MANAGER,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
    try:
        await kube.create(event)
        WRITES.labels(kind="Event", verb="create").inc()
    except KubeError as error:
        logger.warning("Event %s of %s/%s was not recorded: %s", note.reason, *_where(metadata), error)


def _where(metadata: Mapping[str, Any]) -> tuple[str, str]:
    return metadata["namespace"], metadata["name"]
