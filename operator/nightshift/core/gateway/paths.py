"""Which paths reach an engine: everything else of vLLM's many is answered with 404 by the gateway.

vLLM serves more than inference, and guards only a part of it even with an API key: /invocations, /tokenize,
/v1/load_lora_adapter, /adapters, /metrics. Paths are compared exactly, as they were sent: another spelling of one
(%2e, //, ..) is another path, and none of those is in the list.
"""

from nightshift.api.spec import Task

ALLOWED: dict[Task, tuple[str, ...]] = {
    "Chat": (
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "POST /v1/responses",
        "POST /v1/messages",
        "POST /v1/messages/count_tokens",
    ),
    "Completion": ("POST /v1/completions",),
    "Embedding": ("POST /v1/embeddings",),
    "Rerank": ("POST /v1/rerank", "POST /v1/score"),
}
"""Method and path, by the model's task. `GET /v1/models` is answered by the gateway itself."""


def allowed_paths() -> dict[str, str]:
    """The map of allowed paths: TASK:METHOD:PATH to "1"."""
    return {f"{task}:{line.replace(' ', ':', 1)}": "1" for task, lines in ALLOWED.items() for line in lines}
