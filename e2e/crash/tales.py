"""Short stories that together make the operator write everything that it ever writes."""

from collections.abc import Callable
from dataclasses import dataclass

from e2e.process.telling import Telling
from e2e.stories.world import revision_of
from e2e.support.client import Object
from nightshift.api import names

MODEL = "hf://nightshift/tiny"
SECONDS = 300.0
HUNG = [{"name": "VLLM_SIM_FAULTS", "value": '{"hang": true}'}]


@dataclass(frozen=True)
class Tale:
    """A story, told to one operator."""

    tell: Callable[[Telling], None]
    hurry: int
    """How many times sooner than in a cluster engines are looked at, and found where they hang."""


def a_correction_and_a_change(telling: Telling) -> None:
    """A model that needs a Secret which is not there is corrected, serves, and is changed; no history is kept."""
    telling.when("a deployment names a Secret that is not there")
    telling.apply(telling.simulated(model={"uri": MODEL, "tokenSecretRef": {"name": "absent"}}))
    telling.eventually("the Job that looks for the model waits for the Secret", lambda: _waits(telling), SECONDS)
    telling.when("the Secret is named no more")
    telling.apply(telling.simulated(revisionHistoryLimit=0))
    telling.becomes_ready(seconds=SECONDS)
    old = telling.read()["status"]["revision"]
    telling.when("an argument is changed")
    changed = telling.simulated(revisionHistoryLimit=0)
    changed["spec"]["engine"]["args"] = ["--max-model-len=256"]
    telling.apply(changed)
    telling.becomes_ready(seconds=SECONDS)
    telling.eventually("nothing of the old revision is left", lambda: _gone(telling, old), SECONDS)
    telling.eventually("the engine was looked at", telling.engine_was_looked_at, SECONDS)


def _waits(telling: Telling) -> bool | None:
    selector = f"{names.LABEL_DEPLOYMENT}=tiny,{names.LABEL_COMPONENT}={names.COMPONENT_RESOLVE}"
    pods = telling.client.list("pods", telling.namespace, selector)
    states = [
        state["state"].get("waiting", {}).get("reason")
        for pod in pods
        for state in (*pod["status"].get("containerStatuses", ()), *pod["status"].get("initContainerStatuses", ()))
    ]
    return "CreateContainerConfigError" in states or None


def _gone(telling: Telling, revision: str) -> bool | None:
    kept = telling.client.list("replicasets,controllerrevisions", telling.namespace)
    pods = {revision_of(pod) for pod in telling.engine_pods()}
    return (revision not in pods and not any(item["metadata"]["name"].endswith(revision) for item in kept)) or None


def a_claim(telling: Telling) -> None:
    """A model is downloaded into a claim, and served from it."""
    telling.when("a deployment asks for a claim")
    cache = {"type": "Claim", "size": "1Gi"}
    telling.apply(telling.simulated(model={"uri": MODEL, "cache": cache}))
    telling.becomes_ready(seconds=SECONDS)
    telling.eventually("the engine was looked at", telling.engine_was_looked_at, SECONDS)


def an_engine_that_hangs(telling: Telling) -> None:
    """An engine hangs and is replaced; the next one hangs too, and is left alone for ten minutes."""
    telling.when("a deployment's engines hang from their start")
    engine = telling.simulated()["spec"]["engine"]
    telling.apply(telling.simulated(engine={**engine, "env": HUNG}))
    telling.eventually("one hung engine was replaced, and the next one is left alone", lambda: _left(telling), SECONDS)


def _left(telling: Telling) -> bool | None:
    """The only pod is not the one that was deleted, and is told to hang and to be left alone."""
    pods = telling.engine_pods()
    if len(pods) != 1:
        return None
    pod = pods[0]
    revisions = telling.client.list("controllerrevisions", telling.namespace, f"{names.LABEL_DEPLOYMENT}=tiny")
    notes = [(item["metadata"].get("annotations") or {}).get(names.ANNOTATION_HUNG, "") for item in revisions]
    deleted = any(note and not note.endswith(pod["metadata"]["uid"]) for note in notes)
    return (deleted and _told(telling.read(), pod)) or None


def _told(resource: Object, pod: Object) -> bool:
    conditions = resource.get("status", {}).get("conditions", ())
    said = [item["message"] for item in conditions if item["reason"] == "EngineHung"]
    return any(pod["metadata"]["name"] in message and "One was replaced already" in message for message in said)


TALES: dict[str, Tale] = {
    "a correction and a change": Tale(a_correction_and_a_change, hurry=6),
    "a claim": Tale(a_claim, hurry=6),
    "an engine that hangs": Tale(an_engine_that_hangs, hurry=60),
}
"""A kind of write is tried in the first of them that makes it."""
