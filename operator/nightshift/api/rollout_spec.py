"""How a new revision takes the place of the one that serves: the part `rollout` of an LLMDeployment's spec."""

from typing import Annotated, Literal

from pydantic import Field

from nightshift.api.base import ATOMIC, Model, rules

Percent = Annotated[int, Field(ge=1, le=100)]


class RolloutSpec(Model):
    """How a new revision takes the place of the one that serves."""

    strategy: Literal["Auto", "Readiness"] = Field(
        default="Auto",
        description="Auto: a new revision is compared with the one that serves, step by step, and takes over only when "
        "it does no worse; where requests do not come through the gateway nothing is compared. Readiness: it takes "
        "over as soon as its replicas are ready, and nothing is compared. No restart.",
    )
    allow_outage: bool = Field(
        default=False,
        description="True: where no accelerator is free and only one replica serves, it is stopped before the new one "
        "starts. False: it goes on serving, and the status says what is missing. No restart.",
    )
    placement_timeout_seconds: int = Field(
        default=900,
        ge=0,
        le=86400,
        description="Time that a new replica may wait for a node with room, which an autoscaler may bring, before "
        "replicas are replaced in place or the next of hardware.candidates is tried. No restart.",
    )
    deadline_seconds: int = Field(
        default=7200,
        ge=60,
        le=604800,
        description="Time without progress after which a new revision is judged failed and the last good one serves "
        "again. Progress is the begin of the rollout, and a replica that is placed, has its model, or is ready; "
        "waiting for a node and a download under way do not count. Where it is compared with the one that serves: "
        "time from the begin of that to a verdict, never less than all steps take. No restart.",
    )
    steps: tuple[Percent, ...] = Field(
        default=(5, 25, 50),
        min_length=1,
        max_length=10,
        json_schema_extra={
            **ATOMIC,
            **rules(
                (
                    "self.isSorted() && self.all(a, self.exists_one(b, a == b))",
                    "rollout.steps are percents in ascending order, each once, such as [5, 25, 50]",
                )
            ),
        },
        description="Percent of the requests that a new revision gets while it is compared with the one that serves, "
        "step by step; then it takes over. Where replicas are replaced in place it gets the part of those that gave "
        "way, if that is more. Only through the gateway. A rollout keeps the steps that it began with. No restart.",
    )
    step_seconds: int = Field(
        default=300,
        ge=10,
        le=86400,
        description="Time that a step lasts at least; it also lasts until the comparison has passed. No restart.",
    )
    on_inconclusive: Literal["Pause", "Promote", "Rollback"] = Field(
        default="Pause",
        description="What follows when too little was seen until rollout.deadlineSeconds to say whether the new "
        "revision does worse. Data that cannot be read never promote and never roll back. No restart.",
    )
