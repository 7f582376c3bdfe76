"""What a rollout is compared by now, which golden questions are asked for it, and what is noted of both."""

from dataclasses import replace
from datetime import datetime

from nightshift.api.config import OperatorConfig
from nightshift.api.resource import LLMDeployment
from nightshift.api.rollout import RolloutState
from nightshift.core.golden.jobs import Asking, Pairing, ask, over, rounds_begun
from nightshift.core.judged.comparing import Asked, Compared, compare, is_comparing, pairing_of
from nightshift.core.judged.phases import ENDED
from nightshift.core.judged.steps import holds
from nightshift.core.judged.telling import Names
from nightshift.core.marks import Marks
from nightshift.core.observed import Observed
from nightshift.core.revisions import Revision
from nightshift.core.routes import model_task


def gathered(
    deployment: LLMDeployment,
    target: Revision,
    stable: Revision | None,
    state: RolloutState,
    observed: Observed,
    config: OperatorConfig,
    who: Names,
    now: datetime,
) -> tuple[Compared | None, Asking | None]:
    """What the comparison comes to, and which golden questions are asked for it; None while nobody is compared.

    They are asked once at the begin, and again where clients ask too little; none of a model that writes no text.
    """
    if stable is None or observed.comparison is not None or not is_comparing(state):
        return None, None
    spec = deployment.spec
    reference = spec.evaluation.golden_set_ref if spec.evaluation is not None else None
    pairing = pairing_of(target, stable, reference)
    rounds, wordless = rounds_begun(deployment.name, pairing, observed), _wordless(pairing)
    asking = Asking(over(observed), done=True)
    if not wordless:
        asking = ask(deployment, pairing, observed, config, now, rounds=rounds)
    hindered = asking.plan.blocker.message if asking.plan.blocker is not None else wordless
    # A pause for want of evidence ends when answers are there, not whenever another Job is tried.
    under_way = not asking.done and asking.plan.blocker is None and not holds(state)
    pace = float(spec.rollout.step_seconds)
    asked = Asked(reference, under_way, idle=not spec.replicas, step_seconds=pace, hindered=hindered)
    route = f"{deployment.namespace}/{deployment.name}"
    compared = compare(route, target, stable, state, observed, now, stable_name=who.stable, asked=asked)
    if asking.done and compared.short and not wordless:
        asking = ask(deployment, pairing, observed, config, now, rounds=rounds + 1)
    return compared, asking


def _wordless(pairing: Pairing) -> str:
    """Why golden questions are not put to these two; empty where both answer by text."""
    tasks = (model_task(pairing.candidate), model_task(pairing.stable))
    task = next((task for task in tasks if task not in ("Chat", "Completion")), None)
    remedy = "; remove spec.evaluation" if pairing.reference is not None else ""
    return f"a model for {task} writes no text{remedy}" if task is not None else ""


def read_at(compared: Compared | None) -> datetime | None:
    """When gateway and engines were last read in full, where they cannot be read now."""
    if compared is None or compared.noted is None or (compared.seen is not None and compared.seen.readable):
        return None
    return compared.noted.since


def with_comparison(marks: Marks, before: RolloutState, compared: Compared | None) -> Marks:
    """The marks with what is noted of the comparison: nothing once it is over, a closed window before other weights."""
    after = marks.rollout
    if after is None or after.phase in ENDED:
        return replace(marks, comparison=None)
    if compared is None:
        return marks
    same = (before.phase, before.step, before.step_since) == (after.phase, after.step, after.step_since)
    return replace(marks, comparison=compared.noted if same else compared.at_change)
