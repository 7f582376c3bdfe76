"""The same with a gateway: whatever happened before, the way to the replicas is what the last spec alone would make."""

from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sim.test_any_order import EDITS, IMAGES, Edit, Someone, outcome
from tests.support.api_server import copied
from tests.support.builders import HUB_MODEL, SHA, with_gateway
from tests.support.mortal import Mortal

specs = st.fixed_dictionaries(
    {
        "model": st.just({"uri": HUB_MODEL, "revision": SHA}),
        "replicas": st.integers(0, 2),
        "rollout": st.just({"strategy": "Readiness"}),
    },
    optional={
        "engine": st.sampled_from([{"args": ["--seed=1"]}, {"args": ["--max-num-seqs=4"]}]),
        "traffic": st.sampled_from(
            [{"mode": "Service"}, {"mode": "Gateway"}, {"queue": {"maxRequests": 3}}, {"affinity": "Prefix"}]
        ),
        "paused": st.booleans(),
    },
)
OURS = (
    Edit("ConfigMap", "with another route", lambda raw: raw["data"].update({"route.json": "{}"})),
    Edit("ConfigMap", "without its key", lambda raw: raw.update(data={})),
    Edit("Service", "that leads elsewhere", lambda raw: raw["spec"].update(externalName="elsewhere.example.com")),
    *(edit for edit in EDITS if edit.kind in ("NetworkPolicy", "ReplicaSet")),
)
actions = st.one_of(
    specs.map(lambda spec: ("apply", spec)),
    st.sampled_from(OURS).map(lambda edit: ("edit", edit)),
    st.sampled_from(["ConfigMap", "Service", "NetworkPolicy", "ReplicaSet", "LLMDeployment"]).map(
        lambda kind: ("delete", kind)
    ),
    st.sampled_from([("restart", None), ("settle", None)]),
    st.integers(1, 12).map(lambda steps: ("steps", steps)),
    st.randoms(use_true_random=False).map(lambda chooser: ("late", chooser)),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(first=specs, history=st.lists(actions, max_size=8), last=specs)
def test_any_history_ends_in_the_way_that_the_last_spec_alone_makes(
    first: Mapping[str, Any], history: list[tuple[str, Any]], last: Mapping[str, Any]
) -> None:
    someone = Someone(first, with_gateway())
    for action in history:
        someone.act(action)
    last = {**last, "paused": False}
    someone.act(("apply", last))
    someone.let_go()
    someone.simulation.settle()
    alone = Mortal(copied(last), images=IMAGES, chosen=with_gateway())
    alone.settle()
    assert outcome(someone.simulation) == outcome(alone), "\n".join(someone.simulation.log[-40:])
    writes = someone.simulation.writes
    someone.simulation.reconcile()
    assert someone.simulation.writes == writes
