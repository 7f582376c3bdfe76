"""The differences from real vLLM that stay, each with its reason.

Nothing is listed for the simulator: what differed was mended. llm-d-inference-sim is another project, measured
as a second opinion on what a simulator of vLLM is expected to do.
"""

from __future__ import annotations

from e2e.contract.compare import Known

KNOWN: tuple[Known, ...] = (
    Known("llm-d", "*", "*headers.Server", "Its web server names itself."),
    Known("llm-d", "basic.*", "*", "It has no /version, /ping, /load, documentation or fields of permissions."),
    Known(
        "llm-d",
        "chat.*",
        "*",
        "It echoes the question, leaves out fields that vLLM sends as null, and has no "
        "system_fingerprint; log probabilities are placeholders; stop and ignore_eos are not obeyed.",
    ),
    Known("llm-d", "completion.*", "*", "As for chats."),
    Known("llm-d", "errors.*", "*", "It checks less, and words refusals its own way."),
    Known("llm-d", "metrics.*", "*", "It exports a part of the families and labels, and none of the web server's."),
    Known("llm-d", "process.*", "*", "It has flags, log lines and a shutdown of its own."),
    Known("llm-d", "tokens.*", "*", "It has no /detokenize and serves any model's name."),
)
