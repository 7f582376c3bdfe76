"""The base of all contract models, and the markers that become Kubernetes schema extensions."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """Frozen, camelCase outside and snake_case inside, unknown fields refused."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """The object as written to the API server: camelCase, unset values left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_sparse_json(self) -> dict[str, Any]:
        """Only what was set by its writer, without any default: what a change of defaults leaves alone."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


class StoredModel(Model):
    """A model that Nightshift wrote earlier: fields of a newer version are passed over, not refused."""

    model_config = ConfigDict(extra="ignore")


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL rules for `json_schema_extra`: pairs of a rule and the message shown when it does not hold."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


def list_map(*keys: str) -> dict[str, Any]:
    """`json_schema_extra` for a list whose items are identified by keys, so that appliers merge by item."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
"""`json_schema_extra` for a list that is replaced as a whole."""

KubernetesObject = Annotated[
    dict[str, JsonValue],
    Field(json_schema_extra={"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]
"""A piece of a core Kubernetes type, checked by the API server where it is used."""

Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value),
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "pattern": r"^[0-9]+(\.[0-9]+)?([KMGTPE]i|[numkMGTPE]|[eE][0-9]+)?$",
        }
    ),
]
"""A Kubernetes quantity such as 500m or 20Gi."""
