"""The CustomResourceDefinition, generated from the contract's models.

pydantic writes JSON Schema; Kubernetes wants structural schemas (OpenAPI v3 without references, unions
with null, or titles). Source: Kubernetes documentation, "Custom Resources: specifying a structural schema".
"""

from collections.abc import Mapping
from typing import Any

from nightshift.api import names
from nightshift.api.base import rules
from nightshift.api.spec import Spec
from nightshift.api.status import Status

Schema = dict[str, Any]

_DROPPED = frozenset({"title", "$defs", "discriminator"})
_PASSED = frozenset(
    {"type", "required", "default", "description", "pattern", "format", "enum", "minLength", "maxLength"}
    | {"minimum", "maximum", "minItems", "maxItems", "maxProperties"}
)


def structural(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """Turn a JSON Schema of pydantic into a structural schema.

    Defaults of lists and objects are left out: the operator knows them, and stored objects stay as written.

    Raises:
        ValueError: The schema uses something that a structural schema cannot say.
    """
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        merged = {**definitions[name], **{key: value for key, value in schema.items() if key != "$ref"}}
        return structural(merged, definitions)
    if "anyOf" in schema:
        return structural(_without_null(schema), definitions)
    result: Schema = {}
    for key, value in schema.items():
        result |= _keyword(key, value, definitions)
    if result.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    if result.get("x-kubernetes-preserve-unknown-fields"):
        result.pop("additionalProperties", None)
    return result


def _keyword(key: str, value: Any, definitions: Mapping[str, Any]) -> Schema:
    if key in _DROPPED or (key == "default" and not isinstance(value, str | int)):
        return {}
    if key == "properties":
        return {key: {name: structural(item, definitions) for name, item in value.items()}}
    if key == "items":
        return {key: structural(value, definitions)}
    if key == "additionalProperties":
        return {key: structural(value, definitions)} if isinstance(value, Mapping) and value else {}
    if key == "const":
        return {"enum": [value]}
    if key == "exclusiveMinimum":
        return {"minimum": value, "exclusiveMinimum": True}
    if key in _PASSED or key.startswith("x-kubernetes-"):
        return {key: value}
    raise ValueError(f"a structural schema has no {key!r}: {value!r}")


def _without_null(schema: Mapping[str, Any]) -> Schema:
    choices = [choice for choice in schema["anyOf"] if choice.get("type") != "null"]
    if len(choices) != 1:
        raise ValueError(f"a structural schema has no unions: {schema}")
    return {**choices[0], **{key: value for key, value in schema.items() if key != "anyOf"}}


def model_schema(model: type[Spec] | type[Status]) -> Schema:
    """The structural schema of a contract model."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return structural(raw, raw.get("$defs", {}))


def _pending(kind: str, status: str) -> Schema:
    return {
        "type": kind,
        "status": status,
        "observedGeneration": 0,
        "reason": "Pending",
        "message": "Nightshift has not looked at this yet. If this stays so, check that the operator runs.",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }


def _status() -> Schema:
    """The status, with a default that says that nobody has looked yet.

    kstatus takes a resource without conditions for ready, so that `helm install --wait` would come back
    before the operator has seen it. Source: sigs.k8s.io/cli-utils, pkg/kstatus/status/generic.go.
    """
    pending = [_pending("Ready", "Unknown"), _pending("Reconciling", "True")]
    return {**model_schema(Status), "default": {"conditions": pending}}


def _root() -> Schema:
    name_rules = rules(
        (
            f"self.metadata.name.size() <= {names.MAX_NAME_LENGTH}",
            f"metadata.name may have at most {names.MAX_NAME_LENGTH} characters: names of pods are made from it",
        ),
        (
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name must begin with a letter and hold only small letters, digits and '-': "
            "a Service is named after it",
        ),
        (
            "!has(self.spec.adapters) || has(self.spec.model.servedName) || "
            "self.spec.adapters.all(a, a.name != self.metadata.name)",
            "an adapter cannot have the model's own name, which is metadata.name where model.servedName says nothing; "
            "rename the adapter",
        ),
    )
    return {
        "type": "object",
        "description": "An open-weights model served by vLLM. Creating one lets its author run pods in the namespace.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": model_schema(Spec),
            "status": _status(),
        },
        **name_rules,
    }


def _column(name: str, kind: str, path: str, description: str, priority: int = 0) -> Schema:
    column: Schema = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**column, "priority": priority} if priority else column


COLUMNS = (
    _column("Ready", "string", ".status.conditions[?(@.type=='Ready')].status", "Whether the present spec serves."),
    _column("Version", "string", ".status.version", "vLLM version that serves."),
    _column("Replicas", "integer", ".status.readyReplicas", "Replicas that are ready."),
    _column("Reason", "string", ".status.conditions[?(@.type=='Ready')].reason", "Why it is ready or not."),
    _column("Age", "date", ".metadata.creationTimestamp", "Time since it was created."),
    _column("Model revision", "string", ".status.model.revision", "Commit of the model.", priority=1),
    _column("Image digest", "string", ".status.image.digest", "Digest of the engine image.", priority=1),
)


def custom_resource_definition() -> Schema:
    """The CustomResourceDefinition of LLMDeployment."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.KIND.lower(),
                "shortNames": ["lld"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": list(COLUMNS),
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }
