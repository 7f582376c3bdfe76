"""The cache claim: its size, and the note on it that says which commits it holds.

The note spares a download that was done, also long after its Job is gone. It names the claim's uid, because a claim
that was made anew under its name is empty, whatever its annotations say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightshift.api import names
from nightshift.api.resource import LLMDeployment
from nightshift.api.spec import ModelCache
from nightshift.core import children
from nightshift.core.canonical import difference, quantity
from nightshift.core.objects import changes, stamped
from nightshift.core.observed import Observed
from nightshift.core.ownership import is_orphan
from nightshift.core.planning import Apply

_NOTE = f".metadata.annotations.{names.ANNOTATION_DOWNLOADED}"


@dataclass(frozen=True)
class CacheClaim:
    """The claim as it stands."""

    name: str
    uid: str
    created: str
    leaving: bool
    """Being deleted: it goes when no pod mounts it any more."""
    noted: bool
    """Whether there is a note on it at all: versions before this one wrote none."""
    commits: frozenset[str]
    """What it is noted to hold."""


def claim_cache(deployment: LLMDeployment) -> ModelCache | None:
    """The cache that is asked for, where it is a claim."""
    cache = deployment.spec.model.cache
    return cache if cache is not None and cache.type == "Claim" else None


def observed_claim(deployment: LLMDeployment, observed: Observed) -> CacheClaim | None:
    """The claim, once it is there."""
    live = _live(deployment, observed)
    if live is None:
        return None
    metadata = live["metadata"]
    note = (metadata.get("annotations") or {}).get(names.ANNOTATION_DOWNLOADED) or ""
    uid, *commits = note.split() or [""]
    return CacheClaim(
        name=metadata["name"],
        uid=metadata["uid"],
        created=metadata.get("creationTimestamp") or "",
        leaving="deletionTimestamp" in metadata,
        noted=uid == metadata["uid"],
        commits=frozenset(commits) if uid == metadata["uid"] else frozenset(),
    )


def claim_changes(
    deployment: LLMDeployment, observed: Observed, commits: frozenset[str] | None = None
) -> tuple[Apply, ...]:
    """The claim, where it is missing, lost its owner, or the note on it is not as it should be.

    Args:
        deployment: Says which claim is asked for.
        observed: The claim as it stands.
        commits: What to note on it; None leaves the note as it is.
    """
    cache, live, known = claim_cache(deployment), _live(deployment, observed), observed_claim(deployment, observed)
    if cache is None:
        return ()
    if live is None or known is None:
        return changes([children.cache_claim(deployment, cache, {})], observed)
    manifest = _as_it_stands(deployment, cache, live, known.commits if commits is None else commits)
    if is_orphan(live):
        return changes([manifest], observed)
    noted = known.leaving or (commits is None and not known.noted)
    where = None if noted else difference(manifest, live)
    if where is None:
        return ()
    note = f"Noting on claim {known.name} what it holds."
    reason = note if where == _NOTE else f"Correcting PersistentVolumeClaim {known.name} at {where}."
    return (Apply(stamped(manifest), reason, create=False),)


def enlargement(deployment: LLMDeployment, observed: Observed) -> tuple[Apply, ...]:
    """A larger size for the claim; last in a plan, because a storage class may refuse it.

    A claim never shrinks, and one without a volume cannot be changed.
    """
    cache, live, known = claim_cache(deployment), _live(deployment, observed), observed_claim(deployment, observed)
    if cache is None or live is None or known is None or known.leaving or is_orphan(live):
        return ()
    wanted, present = quantity(cache.size or ""), quantity(_size(live) or "")
    bound = (live.get("status") or {}).get("phase") == "Bound"
    if wanted is None or present is None or wanted <= present or not bound:
        return ()
    manifest = _as_it_stands(deployment, cache, live, known.commits)
    manifest["spec"]["resources"] = {"requests": {"storage": cache.size}}
    reason = f"Enlarging claim {known.name} from {_size(live)} to {cache.size}."
    return (Apply(stamped(manifest), reason, create=False),)


def _live(deployment: LLMDeployment, observed: Observed) -> Mapping[str, Any] | None:
    return observed.live.get(("PersistentVolumeClaim", names.claim_name(deployment.name)))


def _size(live: Mapping[str, Any]) -> str | None:
    size: str | None = ((live["spec"].get("resources") or {}).get("requests") or {}).get("storage")
    return size


def _as_it_stands(
    deployment: LLMDeployment, cache: ModelCache, live: Mapping[str, Any], commits: frozenset[str]
) -> children.Manifest:
    """The claim with what cannot be changed of it, and the size that an administrator may have given it."""
    spec, metadata = live["spec"], live["metadata"]
    present = {
        "access_mode": (spec.get("accessModes") or [cache.access_mode])[0],
        "size": _size(live) or cache.size,
        "storage_class_name": spec.get("storageClassName") if cache.storage_class_name is not None else None,
    }
    noted = commits or names.ANNOTATION_DOWNLOADED in (metadata.get("annotations") or {})
    note = {names.ANNOTATION_DOWNLOADED: " ".join((metadata["uid"], *sorted(commits)))} if noted else {}
    return children.cache_claim(deployment, cache.model_copy(update=present), note)
