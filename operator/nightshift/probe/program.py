"""Runs inside an engine image, by its own Python: what that vLLM says of arguments and a model, without any GPU.

Stands alone, since it is handed over as text: it needs the standard library, and vLLM where there is one. Nothing of
another vLLM, Python or platform may make it fail: what cannot be judged is Unknown.

    python3 -c PROGRAM ABOUT [ARGUMENT...]

ABOUT: {"report": FILE, "seconds": LIMIT, "hidden": [DIRECTORIES that the engine has and this container has not],
"model": DIRECTORY or null, "architecture": NAME or null, "quantization": METHOD or null, "chat": whether it chats}.
The arguments are the engine's. One line of JSON is left in FILE, at most 4096 bytes (nightshift.api.preflight).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator  # noqa: UP035 - the image's Python may be older

PARSERS = ("vllm.utils.argparse_utils:FlexibleArgumentParser", "vllm.utils:FlexibleArgumentParser")
"""From 0.11.1 on, and before it. All these places: sources of 0.11.0 to 0.33.0."""
SERVE = ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")
TOOLS = (
    "vllm.tool_parsers:ToolParserManager",
    "vllm.tool_parsers.abstract_tool_parser:ToolParserManager",
    "vllm.entrypoints.openai.tool_parsers:ToolParserManager",
)
REASONING = ("vllm.reasoning:ReasoningParserManager", "vllm.reasoning.abs_reasoning_parsers:ReasoningParserManager")
REGISTRY = "vllm.model_executor.models.registry"
TEMPLATES = (
    "transformers.utils.chat_template_utils:_compile_jinja_template",
    "transformers.utils.chat_template_utils:_cached_compile_jinja_template",
)
MOST_BYTES = 4000
PASSED, REFUSED, UNKNOWN = "Passed", "Refused", "Unknown"

Tell = Callable[[str, str, str], None]
"""Takes a check, its result, and what there is to say."""


class RefusedError(Exception):
    """The parser does not take the arguments."""


def load(*places: str) -> Any:
    """The first of several `module:name` that there is."""
    for place in places[:-1]:
        try:
            return load(place)
        except (ImportError, AttributeError):
            continue
    module, _, name = places[-1].partition(":")
    return getattr(importlib.import_module(module), name)


def reason(error: BaseException) -> str:
    """An exception as one line; of pydantic's the line that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    values = [line for line in lines if line.startswith(("Value error,", "Assertion failed,"))]
    text = re.sub(r" \[type=\w+, input_.*$", "", (values or lines or [""])[0])
    return f"{type(error).__name__}: {text}"


def vllm_version() -> str | None:
    """The version of the vLLM that is installed."""
    try:
        return importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        return str(importlib.import_module("vllm").__version__)


def cuda_version() -> str | None:
    """The CUDA version that torch was built for; read from its file, since an import may touch a driver."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    text = Path(found.origin).with_name("version.py").read_text()
    told = re.search(r"^cuda\b[^=\n]*=\s*'([0-9.]+)'", text, re.MULTILINE)
    return told.group(1) if told else None


def driver_version() -> str | None:
    """The version of the node's NVIDIA kernel module, which every container sees where one is loaded."""
    told = Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    found = re.search(r"\b\d{3,}\.\d+(?:\.\d+)?\b", told)
    return found.group(0) if found else None


def brings_driver_libraries() -> str | None:
    """Whether the image holds NVIDIA's libraries for running on older drivers."""
    return "yes" if any(Path("/usr/local").glob("cuda*/compat/libcuda.so*")) else None


FACTS = {"vllm": vllm_version, "cuda": cuda_version, "driver": driver_version, "compat": brings_driver_libraries}


def settle_platform() -> bool:
    """Whether vLLM found no device and was given the processor, without which it may not even build its parser."""
    platforms: Any = importlib.import_module("vllm.platforms")
    if getattr(platforms.current_platform, "device_type", ""):
        return False
    platforms._current_platform = load("vllm.platforms.cpu:CpuPlatform")()
    return True


def make_parser() -> Any:
    """The parser of `vllm serve`; where it would complain and exit, it raises."""

    def error(parser: Any, message: str) -> None:
        raise RefusedError(message)

    kind = type("Parser", (load(*PARSERS),), {"error": error})
    return load(*(f"{module}:make_arg_parser" for module in SERVE))(kind(prog="vllm serve"))


def parse(arguments: list[str], hidden: list[str], tell: Tell) -> Any:
    """What the arguments say, as vLLM reads them; None where they are refused or cannot be judged."""
    try:
        parser = make_parser()
    except Exception as error:
        tell("arguments", UNKNOWN, f"This vLLM's parser cannot be made here: {reason(error)}")
        return None
    try:
        said = parser.parse_args(arguments)
    except RefusedError as refusal:
        tell("arguments", *refused(str(refusal), hidden))
        return None
    except (Exception, SystemExit) as error:
        tell("arguments", UNKNOWN, f"The parser ended otherwise: {reason(error)}")
        return None
    try:
        load(*(f"{module}:validate_parsed_serve_args" for module in SERVE))(said)
    except Exception as error:
        text = str(error)
        if type(error).__name__ in ("ValueError", "VLLMValidationError") or text.startswith("Error: "):
            tell("arguments", *refused(text.replace("Error: ", "", 1), hidden))
            return None
        tell("arguments", UNKNOWN, f"What was parsed cannot be checked: {reason(error)}")
        return said
    tell("arguments", PASSED, "")
    return said


def refused(text: str, hidden: list[str]) -> tuple[str, str]:
    """A refusal counts unless it is about a file that only the engine has."""
    line = " ".join(text.split())
    absent = next((directory for directory in hidden if f"{directory}/" in line), None)
    return (REFUSED, line) if absent is None else (UNKNOWN, f"It names a file in {absent}, which is not here: {line}")


def registered(manager: Any) -> list[str]:
    """Names of parsers, those that are loaded when they are asked for included."""
    names: set[str] = set()
    if callable(getattr(manager, "list_registered", None)):
        names.update(manager.list_registered())
    for attribute in ("tool_parsers", "reasoning_parsers", "lazy_parsers"):
        held = getattr(manager, attribute, None)
        names.update(held if isinstance(held, dict) else ())
    return sorted(names)


def check_parsers(said: Any, about: dict[str, Any], tell: Tell) -> None:
    """Tool and reasoning parsers that are asked for exist."""
    tool, reasoning = getattr(said, "tool_call_parser", None), getattr(said, "reasoning_parser", None)
    if tool and getattr(said, "enable_auto_tool_choice", False):
        plugin = getattr(said, "tool_parser_plugin", None)
        tell("toolParser", *exists(tool, TOOLS, plugin, "invalid tool call parser: {} (chose from {})"))
    if reasoning:
        plugin = getattr(said, "reasoning_parser_plugin", None)
        tell("reasoningParser", *exists(reasoning, REASONING, plugin, "Reasoning parser '{}' not found. There are: {}"))


def exists(name: str, places: tuple[str, ...], plugin: Any, sentence: str) -> tuple[str, str]:
    """Whether a parser is registered."""
    names = registered(load(*places))
    if name in names:
        return PASSED, ""
    if plugin or not names:
        return UNKNOWN, f"A plugin may bring {name}." if plugin else "This vLLM lists no parsers."
    return REFUSED, sentence.format(name, ", ".join(names))


def check_architecture(said: Any, about: dict[str, Any], tell: Tell) -> None:
    """The model's architecture is one that vLLM, or a plugin of the image, knows."""
    name = about.get("architecture")
    if not name:
        return
    load("vllm.plugins:load_general_plugins")()
    module = importlib.import_module(REGISTRY)
    known = set(module.ModelRegistry.get_supported_archs())
    if name in known:
        tell("architecture", PASSED, "")
        return
    doubt = maybe_other(said, name, known)
    gone = getattr(module, "_PREVIOUSLY_SUPPORTED_MODELS", {}).get(name)
    if doubt:
        tell("architecture", UNKNOWN, doubt)
    elif gone:
        tell("architecture", REFUSED, f"Model architecture {name} was supported in vLLM until v{gone}")
    else:
        tell("architecture", REFUSED, f"Model architectures ['{name}'] are not supported for now")


def maybe_other(said: Any, name: str, known: set[str]) -> str:
    """Why an architecture that is not listed may run all the same; empty where nothing speaks for it."""
    if getattr(said, "trust_remote_code", False) or getattr(said, "hf_overrides", None):
        return f"Arguments may bring an implementation of {name}."
    stem = re.sub(r"(For[A-Z]\w*|Model|LMHeadModel)$", "", name)
    if any(other.startswith(stem) for other in known):
        return f"vLLM may derive {name} from a similar one."
    if name in dir(importlib.import_module("transformers")):
        return f"vLLM may run {name} by Transformers."
    return ""


def check_quantization(said: Any, about: dict[str, Any], tell: Tell) -> None:
    """The quantization method is one that vLLM knows."""
    asked, stored = getattr(said, "quantization", None), about.get("quantization")
    if not (asked or stored):
        return
    known = list(load("vllm.model_executor.layers.quantization:QUANTIZATION_METHODS"))
    if str(asked or stored).lower() in known:
        tell("quantization", PASSED, "")
    elif asked:
        tell("quantization", REFUSED, f"Unknown quantization method: {asked}. Must be one of {known}.")
    else:
        tell("quantization", UNKNOWN, f"vLLM may know {stored} by another name.")


def check_configuration(said: Any, about: dict[str, Any], tell: Tell) -> None:
    """VLLM makes its configuration of the model, where the model's files are here."""
    directory = about.get("model")
    if not directory or not Path(directory, "config.json").exists():
        return
    if getattr(said, "model_tag", None):
        said.model = said.model_tag
    arguments = load("vllm.engine.arg_utils:AsyncEngineArgs").from_cli_args(said)
    try:
        arguments.create_model_config()
    except Exception as error:
        tell("configuration", REFUSED, reason(error))
    else:
        tell("configuration", PASSED, "")


def check_template(said: Any, about: dict[str, Any], tell: Tell) -> None:
    """The chat template can be read, and renders one question of a user."""
    if not about.get("chat"):
        return
    own = getattr(said, "chat_template", None)
    template = written_template(own) if own else model_template(about.get("model"))
    check = "givenTemplate" if own else "modelTemplate"
    if template is None:
        tell(check, UNKNOWN, "The chat template is not here.")
        return
    try:
        compiled = load(*TEMPLATES)(template)
    except Exception as error:
        tell(check, REFUSED if type(error).__name__ == "TemplateSyntaxError" else UNKNOWN, reason(error))
        return
    try:
        messages = [{"role": "user", "content": "Hello"}]
        compiled.render(messages=messages, tools=None, documents=None, add_generation_prompt=True)
    except Exception as error:
        tell(check, UNKNOWN, f"It does not render a plain question: {reason(error)}")
    else:
        tell(check, PASSED, "")


def written_template(given: str) -> str | None:
    """The template of --chat-template: a file, or the text itself."""
    if any(mark in given for mark in "{}\n"):
        return given
    return Path(given).read_text() if Path(given).is_file() else None


def model_template(directory: str | None) -> str | None:
    """The template that a model brings, where its files are here."""
    if not directory:
        return None
    beside, config = Path(directory, "chat_template.jinja"), Path(directory, "tokenizer_config.json")
    if beside.is_file():
        return beside.read_text()
    found = json.loads(config.read_text()).get("chat_template") if config.is_file() else None
    if isinstance(found, list):
        found = next((item["template"] for item in found if item.get("name") == "default"), None)
    return found if isinstance(found, str) else None


CHECKS = {
    "parsers": check_parsers,
    "architecture": check_architecture,
    "quantization": check_quantization,
    "template": check_template,
    "configuration": check_configuration,
}
"""In order: what takes longest, or is likeliest to break off, comes last."""


def examine(about: dict[str, Any], arguments: list[str], write: Callable[[dict[str, str]], None]) -> None:
    """All checks, each of which is written as soon as it is known."""

    def tell(check: str, result: str, said: str) -> None:
        write({"check": check, "result": result, "said": said[:2000]})

    for fact, look in FACTS.items():
        try:
            if found := look():
                write({"fact": fact, "value": found})
        except Exception:  # noqa: S112 - what cannot be told is left out
            continue
    try:
        importlib.import_module("vllm")
        if settle_platform():
            write({"fact": "platform", "value": "assumed"})
    except Exception as error:
        tell("vllm", UNKNOWN, f"This image's Python has no vLLM that can be asked: {reason(error)}")
        return
    parsed = parse(arguments, about.get("hidden") or [], tell)
    if parsed is None:
        return
    for name, check in CHECKS.items():
        try:
            check(parsed, about, tell)
        except Exception as error:
            tell(name, UNKNOWN, f"It cannot be judged here: {reason(error)}")


def in_a_child(about: dict[str, Any], arguments: list[str]) -> tuple[int, int]:
    """Examine in a process of its own, so that a crash or a hang of vLLM loses nothing that is known already."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading

    def write(line: dict[str, str]) -> None:
        os.write(writing, (json.dumps(line) + "\n").encode())

    try:
        examine(about, arguments, write)
        write({"done": "yes"})
    finally:
        sys.stdout.flush()
        os._exit(0)


def lines(reading: int, seconds: float) -> Iterator[dict[str, str]]:
    """What the child writes, until it ends or its time is over."""
    deadline, rest = time.monotonic() + seconds, b""
    while select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
        more = os.read(reading, 65536)
        *whole, rest = (rest + more).split(b"\n")
        for told in map(json.loads, whole):
            if "done" in told:
                return
            yield told
        if not more:
            break
    yield {"check": "end", "result": UNKNOWN, "said": f"vLLM ended the program, or took longer than {seconds:.0f} s."}


def outcome(told: list[dict[str, str]]) -> str:
    """The line that is left: as much of each sentence as there is room for."""
    facts = {line["fact"]: line["value"][:64] for line in told if "fact" in line}
    limit = 600
    while True:
        checks = [
            {"check": line["check"], "result": line["result"], "said": line["said"][:limit]}
            for line in told
            if "check" in line
        ]
        text = json.dumps({"kind": "Preflight", **facts, "checks": checks}, separators=(",", ":"), ensure_ascii=False)
        if len(text.encode(errors="replace")) <= MOST_BYTES or limit < 20:
            return text
        limit //= 2


def main() -> None:
    """Examine, and leave what came of it."""
    about = json.loads(sys.argv[1])
    child, reading = in_a_child(about, sys.argv[2:])
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    line = outcome(list(lines(reading, float(about["seconds"]))))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    Path(about["report"]).write_bytes(line.encode(errors="replace"))
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
