"""The cases; importing this package registers them all."""

from e2e.contract.cases import basic, chat, completions, errors, lora, metrics, tokens

__all__ = ["basic", "chat", "completions", "errors", "lora", "metrics", "tokens"]
