"""How a model's answers are judged: the part `evaluation` of an LLMDeployment's spec."""

from typing import Literal

from pydantic import ConfigDict, Field

from nightshift.api.base import Model, rules


class GoldenSetRef(Model):
    """Where a golden set lies, in the deployment's namespace."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.kind != 'ConfigMap' || !self.key.contains('/')",
                "a key of a ConfigMap has no '/'; write the key alone, or set kind to PersistentVolumeClaim for a path",
            ),
            (
                "!self.key.split('/').exists(part, part == '.' || part == '..')",
                "evaluation.goldenSetRef.key leads through '.' or '..'; write the path from the root of the claim",
            ),
        )
    )

    kind: Literal["ConfigMap", "PersistentVolumeClaim"] = Field(
        default="ConfigMap",
        description="ConfigMap, which holds up to 1 MiB, or PersistentVolumeClaim, which is mounted read-only.",
    )
    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="Name of the ConfigMap or claim.",
    )
    key: str = Field(
        default="golden.jsonl",
        min_length=1,
        max_length=253,
        pattern=r"^[-._a-zA-Z0-9]+(/[-._a-zA-Z0-9]+)*$",
        description="Key in the ConfigMap, or path on the claim: one question per line, as JSON.",
    )


class EvaluationSpec(Model):
    """What a new revision is asked before it gets the requests of others."""

    golden_set_ref: GoldenSetRef = Field(
        description="The questions. Both revisions are asked each, and the answers are compared; they stay in the "
        "cluster and are not kept. No restart."
    )
