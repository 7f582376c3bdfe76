"""Bad inputs that never pass the API server's admission: each with the words that the refusal must hold."""

from collections.abc import Mapping
from typing import Any

Spec = Mapping[str, Any]

REFUSED: Mapping[str, tuple[Spec, str]] = {
    "a flag that Nightshift owns": ({"engine": {"args": ["--port=1"]}}, "--port"),
    "a flag that carries a secret, spelled with underscores": ({"engine": {"args": ["--api_key=x"]}}, "--api-key"),
    "a flag that is cut short": ({"engine": {"args": ["--serv=x"]}}, "--served-model-name"),
    "a variable that opens the engine": (
        {"engine": {"env": [{"name": "VLLM_SERVER_DEV_MODE", "value": "1"}]}},
        "DEV_MODE",
    ),
    "a variable that carries a token": (
        {"engine": {"env": [{"name": "HF_TOKEN", "value": "x"}]}},
        "model.tokenSecretRef",
    ),
    "a version that is none": ({"engine": {"version": "newest"}}, "spec.engine.version"),
    "an image with a tag": ({"engine": {"image": "docker.io/vllm/vllm-openai:v1"}}, "spec.engine.image"),
    "more arguments than a command line needs": ({"engine": {"args": ["--x"] * 129}}, "spec.engine.args"),
    "an argument as long as a book": ({"engine": {"args": ["--x=" + "a" * 5000]}}, "spec.engine.args"),
    "a start deadline of five seconds": ({"engine": {"startDeadlineSeconds": 5}}, "startDeadlineSeconds"),
    "a model address that is none": ({"model": {"uri": "ftp://a/b"}}, "spec.model.uri"),
    "a model address in another script": ({"model": {"uri": "hf://模型/小"}}, "spec.model.uri"),
    "no model": ({"model": {}}, "uri"),
    "a revision with a space": ({"model": {"uri": "hf://a/b", "revision": "my branch"}}, "spec.model.revision"),
    "a revision of a claim": ({"model": {"uri": "pvc://a/b", "revision": "main"}}, "belong to hf:// models"),
    "a cache claim without a size": ({"model": {"uri": "hf://a/b", "cache": {"type": "Claim"}}}, "needs a size"),
    "a size in words": ({"model": {"uri": "hf://a/b", "cache": {"type": "Claim", "size": "big"}}}, "size"),
    "a served name with a space": ({"model": {"uri": "hf://a/b", "servedName": "my model"}}, "servedName"),
    "a task that there is not": ({"model": {"uri": "hf://a/b", "task": "Poetry"}}, "spec.model.task"),
    "a task that the arguments say too": (
        {"model": {"uri": "hf://a/b", "task": "Embedding"}, "engine": {"args": ["--runner=pooling"]}},
        "remove --runner",
    ),
    "no accelerators": ({"hardware": {"candidates": [{"accelerator": "cpu", "count": 0}]}}, "count"),
    "a field that does not exist": ({"sclaing": {}}, "sclaing"),
    "fewer replicas than none": ({"replicas": -1}, "spec.replicas"),
    "replicas in words": ({"replicas": "two"}, "spec.replicas"),
    "steps of a rollout that go down": ({"rollout": {"steps": [50, 25]}}, "in ascending order"),
    "a step of a rollout without requests": ({"rollout": {"steps": [0, 50]}}, "spec.rollout.steps"),
    "a strategy that there is not": ({"rollout": {"strategy": "Hope"}}, "spec.rollout.strategy"),
    "a policy that there is not": ({"rollout": {"onInconclusive": "Wait"}}, "onInconclusive"),
    "a negative time to drain": ({"traffic": {"drainSeconds": -1}}, "drainSeconds"),
    "a volume name of Nightshift's": ({"podTemplate": {"volumes": [{"name": "models"}]}}, "belong to Nightshift"),
    "a label of Nightshift's": (
        {"podTemplate": {"metadata": {"labels": {"nightshift.dev/x": "y"}}}},
        "belong to Nightshift",
    ),
    "a list where an object belongs": ({"engine": ["--x"]}, "spec.engine"),
}
