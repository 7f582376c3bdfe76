"""Carrying out a plan, in its order; API errors become causes, and nothing is decided here."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightshift.adapters.kube import Kube, KubeError, Object, Reference, only_new, reference
from nightshift.api import names
from nightshift.api.resource import LLMDeployment
from nightshift.core.causes import Cause, name_taken, still_leaving
from nightshift.core.exchange import not_evicted
from nightshift.core.objects import refused
from nightshift.core.ownership import is_left_over, is_owned, is_route
from nightshift.core.planning import Apply, Delete, Plan
from nightshift.runtime.cache import Cache
from nightshift.runtime.telemetry import WRITES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What came of carrying out a plan."""

    writes: int
    cause: Cause | None
    """What the API server refused for good, or None."""


async def execute(plan: Plan, deployment: LLMDeployment, kube: Kube, cache: Cache) -> Outcome:
    """Carry out a plan. The first refusal ends it: what comes later may stand on what was refused.

    Raises:
        KubeError: The API server could not be reached or asked to come back later.
    """
    where = f"{deployment.namespace}/{deployment.name}"
    writes = 0
    for item in plan.apply:
        try:
            cause = await _apply(item, deployment, kube, cache)
        except KubeError as error:
            if error.transient:
                raise
            cause = refused(item, error.message)
        if cause is not None:
            logger.warning("%s: %s", where, cause.message)
            return Outcome(writes, cause)
        logger.info("%s: %s", where, item.reason)
        writes += 1
    for deletion in plan.delete:
        cause = await (_evict if deletion.evict else _delete)(deletion, deployment, kube, cache)
        if cause is not None:
            logger.warning("%s: %s", where, cause.message)
            return Outcome(writes, cause)
        logger.info("%s: %s", where, deletion.reason)
        writes += 1
    return Outcome(writes, None)


async def _apply(item: Apply, deployment: LLMDeployment, kube: Kube, cache: Cache) -> Cause | None:
    kind = item.manifest["kind"]
    if item.create:
        applied = await _create(item.manifest, deployment, kube)
        if isinstance(applied, Cause):
            return applied
    else:
        if item.additions is not None:
            await kube.merge(reference(item.manifest), item.additions.patch)
            WRITES.labels(kind=kind, verb="patch").inc()
        applied = await kube.apply(_of_known(item.manifest, deployment, cache), names.FIELD_MANAGER)
    WRITES.labels(kind=kind, verb="apply").inc()
    cache.put_child(kind, applied)
    return None


async def _create(manifest: Object, deployment: LLMDeployment, kube: Kube) -> Object | Cause:
    """The object, new or ours already; or why it cannot be: a stranger of this name is seen before it is touched."""
    try:
        return await kube.apply(only_new(manifest), names.FIELD_MANAGER)
    except KubeError as error:
        existing = await kube.find(reference(manifest)) if error.status == 409 else None
        if existing is None:
            raise
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    if not (is_owned(existing, deployment.uid) or is_route(existing)):
        return still_leaving(kind, name) if is_left_over(existing, deployment.name) else name_taken(kind, name)
    return await kube.apply(_with_uid(manifest, existing), names.FIELD_MANAGER)


def _of_known(manifest: Object, deployment: LLMDeployment, cache: Cache) -> Object:
    """The manifest for exactly the object that is known: a stranger that took its name since is refused."""
    children = cache.children((deployment.namespace, deployment.name))
    known = children.get((manifest["kind"], manifest["metadata"]["name"]))
    if known is None:
        return manifest
    return _with_uid(manifest, known)


def _with_uid(manifest: Object, known: Mapping[str, Any]) -> Object:
    return {**manifest, "metadata": {**manifest["metadata"], "uid": known["metadata"]["uid"]}}


async def _delete(item: Delete, deployment: LLMDeployment, kube: Kube, cache: Cache) -> None:
    """Delete an object. One that is gone is forgotten: a watch that began after it went never tells of it."""
    where = Reference(item.api_version, item.kind, item.namespace or deployment.namespace, item.name)
    if not await kube.delete(where, item.uid, item.resource_version, item.grace_seconds):
        cache.forget_child((deployment.namespace, deployment.name), (item.kind, item.name), item.uid)
    WRITES.labels(kind=item.kind, verb="delete").inc()


async def _evict(item: Delete, deployment: LLMDeployment, kube: Kube, _: Cache) -> Cause | None:
    """Evict a pod; or why its PodDisruptionBudget does not allow it now, which the API server says as 429."""
    try:
        await kube.evict(Reference(item.api_version, item.kind, deployment.namespace, item.name), item.uid)
    except KubeError as error:
        if error.status != 429:
            raise
        return not_evicted(item.name, error.message)
    WRITES.labels(kind=item.kind, verb="evict").inc()
    return None
