"""The LLMDeployment as a whole: parsing what the API server holds into the contract."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from nightshift.api import names
from nightshift.api.base import Model
from nightshift.api.spec import Spec
from nightshift.api.status import Status


class LLMDeployment(Model):
    """A parsed LLMDeployment: identity, spec and the status as it stands."""

    name: str
    namespace: str
    uid: str
    generation: int
    deleting: bool
    fit_check: bool = True
    """Whether what does not fit is refused; an annotation turns it off."""
    preflight: bool = True
    """Whether a new revision's own image is asked before it replaces what serves; an annotation turns it off."""
    retry: str | None = None
    """Value of the annotation by which people ask for another try of a revision that was judged failed."""
    order: str | None = None
    """Value of the annotation by which people say what is to be done with a judged rollout."""
    scaling_note: str | None = None
    """What is noted on ReplicaSets of the number of replicas, where the autoscaler decided; put in by the plan."""
    spec: Spec
    status: Status


class SpecError(Exception):
    """A spec that cannot be served; the message names field, value and remedy."""


def _sentence(error: ValidationError) -> str:
    parts = []
    for detail in error.errors(include_url=False, include_context=False)[:3]:
        field = ".".join(str(part) for part in ("spec", *detail["loc"]))
        value = "" if detail["type"] == "missing" else f" (got {str(detail.get('input'))[:80]!r})"
        parts.append(f"{field}: {detail['msg']}{value}")
    return "; ".join(parts) + ". Correct the field and apply again; what serves now goes on serving."


def parse_status(body: Mapping[str, Any]) -> Status:
    """The status as it stands; an unreadable one (from another version) counts as none."""
    try:
        return Status.model_validate(body.get("status") or {})
    except ValidationError:
        return Status()


def parse(body: Mapping[str, Any]) -> LLMDeployment:
    """Parse an object of the API server.

    Raises:
        SpecError: The spec is not one that this version of Nightshift understands.
    """
    metadata = body["metadata"]
    try:
        spec = Spec.model_validate(body.get("spec") or {})
    except ValidationError as error:
        raise SpecError(_sentence(error)) from error
    return LLMDeployment(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        deleting="deletionTimestamp" in metadata,
        fit_check=str((metadata.get("annotations") or {}).get(names.ANNOTATION_FIT_CHECK)).lower() != "off",
        preflight=str((metadata.get("annotations") or {}).get(names.ANNOTATION_PREFLIGHT)).lower() != "off",
        retry=(metadata.get("annotations") or {}).get(names.ANNOTATION_RETRY),
        order=(metadata.get("annotations") or {}).get(names.ANNOTATION_PERSON),
        spec=spec,
        status=parse_status(body),
    )
