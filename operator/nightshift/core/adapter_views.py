"""What is told of each adapter: how many replicas serve it, and what it waits for or what is wrong with it."""

from dataclasses import dataclass

from nightshift.api.adapters import AdapterPin, AdapterSpec, AdapterState
from nightshift.api.conditions import Verdict
from nightshift.api.fetch import FetchReason
from nightshift.api.status import AdapterStatus
from nightshift.core.adapter_sight import TRIES, Refusal
from nightshift.core.cause import Cause
from nightshift.core.engine_log import redact
from nightshift.core.observed import Observed, PodFacts

_PASSING = frozenset({FetchReason.HUB_UNREACHABLE, FetchReason.ADAPTER_DOWNLOAD_FAILED})
"""Failures that may end by themselves."""

_LONGEST_EXCERPT = 300

CONDITION = "AdaptersReady"

_CLOSED = " Until there is a gateway only the operator and the scrapers reach the engines."


@dataclass(frozen=True)
class AdapterView:
    """What is known of one adapter of the spec."""

    name: str
    sha: str | None
    ready_replicas: int
    """Ready replicas whose engines serve this commit under its name."""
    cause: Cause
    """Its state, as a reason and a sentence; definite where a person has to act."""
    done: bool
    """Whether every replica serves it."""


def viewed(
    wanted: AdapterSpec,
    pin: AdapterPin | None,
    cause: Cause | None,
    target: str | None,
    replicas: int,
    observed: Observed,
    called: tuple[str, ...],
) -> AdapterView:
    """What is told of one adapter.

    Args:
        wanted: As the spec asks for it.
        pin: What it was resolved to; None where it was not.
        cause: Why it cannot be served, as far as that is known before any engine is asked.
        target: The revision that is to serve; None where it cannot be named yet.
        replicas: As the spec asks for.
        observed: The pods, and what engines and sidecars told.
        called: All names that an engine must know it by.
    """
    if pin is None:
        return AdapterView(wanted.name, None, 0, _unresolved(wanted, cause), done=False)
    holding = sum(pod.ready and _holds(pod, pin, called, observed) for pod in observed.engine_pods())
    if cause is not None:
        return AdapterView(wanted.name, pin.sha, holding, cause, done=False)
    ready = [pod for pod in observed.engine_pods(target) if pod.ready] if target is not None else []
    serving = [pod for pod in ready if _holds(pod, pin, called, observed)]
    if target is not None and len(serving) == len(ready) and len(serving) >= replicas:
        return AdapterView(wanted.name, pin.sha, holding, _loaded(pin, len(serving), replicas), done=True)
    pods = observed.engine_pods(target) if target is not None else ()
    return AdapterView(
        wanted.name, pin.sha, holding, _lacking(pin, called, pods, observed, holding, replicas), done=False
    )


def status_of(views: tuple[AdapterView, ...]) -> tuple[AdapterStatus, ...] | None:
    """What the status lists; nothing where no adapter is asked for."""
    return (
        tuple(
            AdapterStatus(
                name=view.name,
                revision=view.sha,
                ready_replicas=view.ready_replicas,
                reason=view.cause.reason,
                message=view.cause.message,
            )
            for view in views
        )
        or None
    )


def outstanding(views: tuple[AdapterView, ...]) -> Cause | None:
    """What the adapters still want for: what waits for a person before what goes on by itself; None: nothing."""
    open_ = [view.cause for view in views if not view.done]
    return next((cause for cause in open_ if cause.definite), open_[0] if open_ else None)


def condition(views: tuple[AdapterView, ...], *, takes_adapters: bool, gateway: bool) -> Verdict | None:
    """The condition AdaptersReady; none where there are neither adapters nor engines that are closed for their sake."""
    if not views:
        if gateway or not takes_adapters:
            return None
        message = (
            "No adapters are asked for. The engines still take some, so only the operator and the scrapers reach them "
            "until the next revision, which any change that restarts pods makes."
        )
        return Verdict(type=CONDITION, status="True", reason="NoAdapters", message=message)
    served = sum(view.done for view in views)
    cause = outstanding(views)
    if cause is None:
        message = f"{served} of {len(views)} adapters are served by every replica.{'' if gateway else _CLOSED}"
        return Verdict(type=CONDITION, status="True", reason="Loaded", message=message)
    message = f"{cause.message} {served} of {len(views)} adapters are served by every replica."
    return Verdict(type=CONDITION, status="False", reason=cause.reason, message=message)


def _holds(pod: PodFacts, pin: AdapterPin, called: tuple[str, ...], observed: Observed) -> bool:
    sight = observed.adapters.get(pod.name)
    return sight is not None and all(sight.holds(name, pin.sha) for name in called)


def _unresolved(wanted: AdapterSpec, cause: Cause | None) -> Cause:
    name, uri, revision = wanted.request
    if cause is not None:
        return Cause(cause.reason, f"Adapter {name}: {cause.message}", cause.definite)
    return Cause("ResolvingAdapter", f"Adapter {name}: revision {revision} of {uri} is being resolved.", definite=False)


def _loaded(pin: AdapterPin, serving: int, replicas: int) -> Cause:
    return Cause("Loaded", f"{serving} of {replicas} replicas serve commit {pin.sha[:12]}.", definite=False)


def _lacking(
    pin: AdapterPin,
    called: tuple[str, ...],
    pods: tuple[PodFacts, ...],
    observed: Observed,
    holding: int,
    replicas: int,
) -> Cause:
    """What the first replica that lacks it says, one that fails before those that are under way."""
    under_way = None
    for pod in pods:
        sight = observed.adapters.get(pod.name)
        if sight is None or _holds(pod, pin, called, observed):
            continue
        state, refusals = sight.state(pin.sha), (sight.refusal(name, pin.sha) for name in called)
        if state is not None and state.phase == "Failed":
            return _not_fetched(pin, state)
        refusal = next((item for item in refusals if item is not None and item.final), None)
        if refusal is not None:
            return _not_loaded(pin, pod, refusal)
        fetching = state is None or state.phase == "Fetching"
        under_way = under_way or ("FetchingAdapter" if fetching else "LoadingAdapter", pod.name)
    doing, where = under_way or ("WaitingForReplica", "")
    what = {
        "FetchingAdapter": f"it is being fetched in pod {where}",
        "LoadingAdapter": f"it is being loaded into the engine of pod {where}",
        "WaitingForReplica": "replicas of the present revision are being started",
    }[doing]
    count = f"{holding} of {replicas} replicas serve commit {pin.sha[:12]}"
    return Cause(doing, f"Adapter {pin.name}: {count}; {what}.", definite=False)


def _not_fetched(pin: AdapterPin, state: AdapterState) -> Cause:
    reason = state.reason or FetchReason.ADAPTER_DOWNLOAD_FAILED
    again = " It is tried again every minute." if reason in _PASSING else ""
    message = f"Adapter {pin.name}: {state.message}{again} The model and the other adapters go on."
    return Cause(reason.value, message, definite=reason not in _PASSING)


def _not_loaded(pin: AdapterPin, pod: PodFacts, refusal: Refusal) -> Cause:
    said = redact(refusal.message)[:_LONGEST_EXCERPT].rstrip(".")
    message = (
        f"Adapter {pin.name}: the engine of pod {pod.name} refused commit {pin.sha[:12]} {TRIES} times: {said}. Choose "
        "another adapter or revision, or remove it; the model and the other adapters go on."
    )
    return Cause("AdapterLoadRefused", message, definite=True)
