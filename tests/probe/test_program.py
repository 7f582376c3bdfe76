"""The program that asks an engine image's own vLLM, run as the image would run it, on stubs of several versions."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nightshift.api.fetch import TERMINATION_MESSAGE_LIMIT
from nightshift.api.preflight import PreflightOutcome, parse_preflight
from nightshift.core.preflight_job import PROGRAM
from tests.probe.stub_vllm import vllm_files, write

VERSIONS = ("0.11.0", "0.11.1", "0.14.0", "0.31.0", "0.32.0")
NO_DEVICE = ""


def told(
    where: Path, files: Mapping[str, str], *arguments: str, environment: Mapping[str, str] | None = None, **about: Any
) -> PreflightOutcome:
    """What the program leaves."""
    report = where / "report"
    asked = {"report": str(report), "seconds": 60, "hidden": ["/models"], "chat": False, **about}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(asked), *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(write(files, where / "packages")), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    left = report.read_text()
    assert len(report.read_bytes()) <= TERMINATION_MESSAGE_LIMIT
    assert left in done.stdout, "the log says the same"
    found = parse_preflight(left)
    assert found is not None
    return found


def results(found: PreflightOutcome) -> dict[str, str]:
    return {item.check: item.result.value for item in found.checks}


def said(found: PreflightOutcome) -> str:
    return " | ".join(item.said for item in found.checks)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_asked_where_its_parts_are(version: str, tmp_path: Path) -> None:
    arguments = ["/models/x", "--served-model-name", "bot", "ml/bot", "--max_model_len=512", "--quantization=fp8"]
    arguments += ["--enable-auto-tool-choice", "--tool-call-parser=hermes", "--reasoning-parser=qwen3"]
    found = told(tmp_path, vllm_files(version), *arguments, architecture="LlamaForCausalLM")
    assert results(found) == dict.fromkeys(
        ("arguments", "toolParser", "reasoningParser", "architecture", "quantization"), "Passed"
    )
    assert (found.vllm, found.cuda, found.platform) == (f"{version}+cu130", "13.0", None)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_refuses_a_flag_that_it_does_not_have(version: str, tmp_path: Path) -> None:
    found = told(tmp_path, vllm_files(version), "/models/x", "--speed=ludicrous", architecture="NovelForCausalLM")
    assert [(item.check, item.result, item.said) for item in found.checks] == [
        ("arguments", "Refused", "unrecognized arguments: --speed=ludicrous")
    ], "what follows from arguments is not asked any more"


def test_a_flag_that_was_removed_is_taken_before_and_refused_after(tmp_path: Path) -> None:
    before = told(tmp_path / "old", vllm_files("0.14.0"), "/models/x", "--swap-space=4")
    after = told(tmp_path / "new", vllm_files("0.32.0"), "/models/x", "--swap-space=4")
    assert (results(before), results(after)) == ({"arguments": "Passed"}, {"arguments": "Refused"})


@pytest.mark.parametrize(
    ("arguments", "about", "check", "result", "words"),
    [
        pytest.param(
            ["--max-model-len=many"], {}, "arguments", "Refused", "argument --max-model-len: invalid int", id="a value"
        ),
        pytest.param(["--max=3"], {}, "arguments", "Refused", "ambiguous option: --max", id="a shortened flag"),
        pytest.param(
            ["--enable-auto-tool-choice"], {}, "arguments", "Refused",
            "--enable-auto-tool-choice requires --tool-call-parser", id="a flag that needs another one",
        ),
        pytest.param(
            ["--chat-template=/absent.jinja"], {}, "arguments", "Refused", "doesn't exist",
            id="a file that is nowhere",
        ),
        pytest.param(
            ["--chat-template=/models/x/chat.jinja"], {}, "arguments", "Unknown", "which is not here",
            id="a file that only the engine has",
        ),
        pytest.param(["--help"], {}, "arguments", "Unknown", "ended otherwise", id="an end that is asked for"),
        pytest.param(
            ["--enable-auto-tool-choice", "--tool-call-parser=none"], {}, "toolParser", "Refused",
            "invalid tool call parser: none (chose from hermes, llama3_json)", id="a tool parser that there is not",
        ),
        pytest.param(
            ["--enable-auto-tool-choice", "--tool-call-parser=own", "--tool-parser-plugin=/own.py"], {}, "toolParser",
            "Unknown", "A plugin may bring own", id="a tool parser of a plugin",
        ),
        pytest.param(
            ["--reasoning-parser=none"], {}, "reasoningParser", "Refused",
            "Reasoning parser 'none' not found. There are: qwen3", id="a reasoning parser that there is not",
        ),
        pytest.param(
            ["--quantization=int3"], {}, "quantization", "Refused", "Unknown quantization method: int3. Must be one of",
            id="a quantization that there is not",
        ),
        pytest.param(
            [], {"quantization": "rare"}, "quantization", "Unknown", "by another name", id="a checkpoint's quantization"
        ),
        pytest.param(
            [], {"architecture": "NovelForCausalLM"}, "architecture", "Refused",
            "Model architectures ['NovelForCausalLM'] are not supported for now", id="an architecture nobody knows",
        ),
        pytest.param(
            [], {"architecture": "MotifForCausalLM"}, "architecture", "Refused", "was supported in vLLM until v0.10.2",
            id="an architecture that is gone",
        ),
        pytest.param(
            [], {"architecture": "GptNeoForCausalLM"}, "architecture", "Unknown", "by Transformers",
            id="an architecture that Transformers may run",
        ),
        pytest.param(
            [], {"architecture": "LlamaForSequenceClassification"}, "architecture", "Unknown", "from a similar one",
            id="an architecture that is derived from another",
        ),
        pytest.param(
            ["--trust-remote-code"], {"architecture": "NovelForCausalLM"}, "architecture", "Unknown", "implementation",
            id="an architecture that brings its code",
        ),
        pytest.param(
            ["--chat-template={% if broken"], {"chat": True}, "givenTemplate", "Refused",
            "TemplateSyntaxError: unexpected end", id="a given template that cannot be read",
        ),
        pytest.param(
            ["--chat-template={{ messages }}"], {"chat": True}, "givenTemplate", "Passed", "", id="a given template"
        ),
        pytest.param(
            ["--chat-template={{ raise_exception(1) }}"], {"chat": True}, "givenTemplate", "Unknown", "must alternate",
            id="a template that wants other questions",
        ),
        pytest.param([], {"chat": True}, "modelTemplate", "Unknown", "not here", id="a model that is not here"),
    ],
)  # fmt: skip
def test_what_a_vllm_says_of(
    arguments: list[str], about: dict[str, Any], check: str, result: str, words: str, tmp_path: Path
) -> None:
    found = told(tmp_path, vllm_files("0.32.0"), "/models/x", *arguments, **about)
    named = {item.check: item for item in found.checks}
    assert (named[check].result, words in named[check].said) == (result, True), said(found)


@pytest.mark.parametrize(
    ("files", "arguments", "expected"),
    [
        pytest.param(
            {"chat_template.jinja": "{{ messages }}"}, [], {"modelTemplate": "Passed", "configuration": "Passed"},
            id="a model with a template in a file of its own",
        ),
        pytest.param(
            {"tokenizer_config.json": '{"chat_template": "{% if broken"}'}, [],
            {"modelTemplate": "Refused", "configuration": "Passed"}, id="a model whose template cannot be read",
        ),
        pytest.param(
            {"tokenizer_config.json": '{"chat_template": [{"name": "default", "template": "{{ messages }}"}]}'}, [],
            {"modelTemplate": "Passed", "configuration": "Passed"}, id="a model with several templates",
        ),
        pytest.param(
            {}, ["--max-model-len=4096"], {"modelTemplate": "Unknown", "configuration": "Refused"},
            id="a context longer than the model's",
        ),
        pytest.param(
            {"tokenizer_config.json": "{"}, [], {"template": "Unknown", "configuration": "Passed"},
            id="files that cannot be read",
        ),
    ],
)  # fmt: skip
def test_a_model_that_is_at_hand_is_looked_at(
    files: dict[str, str], arguments: list[str], expected: dict[str, str], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    write({"config.json": "{}", **files}, model)
    found = told(tmp_path, vllm_files("0.32.0"), str(model), *arguments, model=str(model), chat=True)
    assert results(found) == {"arguments": "Passed", **expected}, said(found)


@pytest.mark.parametrize("version", VERSIONS)
def test_without_a_device_the_parser_is_made_as_on_a_processor_and_that_is_told(version: str, tmp_path: Path) -> None:
    found = told(tmp_path, vllm_files(version, device=NO_DEVICE), "/models/x", "--max-num-seqs=4")
    assert (results(found), found.platform) == ({"arguments": "Passed"}, "assumed")


def changed(path: str, text: str) -> dict[str, str]:
    return {**vllm_files("0.32.0"), path: text}


@pytest.mark.parametrize(
    ("files", "checks"),
    [
        pytest.param({}, {"vllm": "Unknown"}, id="an image without vLLM"),
        pytest.param(
            changed("vllm/__init__.py", "raise OSError('libcuda.so.1: cannot open')"), {"vllm": "Unknown"},
            id="a vLLM that cannot be loaded",
        ),
        pytest.param(
            changed("vllm/entrypoints/launchers/cli_args.py", ""), {"arguments": "Unknown"},
            id="a vLLM whose parser is elsewhere",
        ),
        pytest.param(
            changed("vllm/model_executor/models/registry.py", "raise ImportError('no kernels')"),
            {"arguments": "Passed", "architecture": "Unknown"}, id="a vLLM without a registry of models",
        ),
        pytest.param(
            changed("vllm/model_executor/models/registry.py", "import os\nos.abort()"),
            {"arguments": "Passed", "end": "Unknown"}, id="a vLLM that crashes",
        ),
        pytest.param(
            changed("vllm/model_executor/models/registry.py", "import sys\nsys.exit(3)"),
            {"arguments": "Passed", "end": "Unknown"}, id="a vLLM that ends the program",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_unknown_and_what_is_known_already_is_told(
    files: dict[str, str], checks: dict[str, str], tmp_path: Path
) -> None:
    assert results(told(tmp_path, files, "/models/x", architecture="LlamaForCausalLM")) == checks


def test_a_vllm_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    files = changed("vllm/plugins/__init__.py", "import signal\nwhile True: signal.pause()")
    found = told(tmp_path, files, "/models/x", architecture="LlamaForCausalLM", seconds=2)
    assert found.checks[-1].check == "end"
    assert "took longer than 2 s" in found.checks[-1].said


def test_long_answers_are_cut_so_that_all_of_them_are_told(tmp_path: Path) -> None:
    many = "QUANTIZATION_METHODS = [f'方法{i}' for i in range(2000)]"
    files = changed("vllm/model_executor/layers/quantization/__init__.py", many)
    broken = "--chat-template={% if " + "日本" * 2000
    found = told(
        tmp_path, files, "/models/x", "--quantization=int3", broken, chat=True, architecture="NovelForCausalLM"
    )
    assert results(found) == {
        "arguments": "Passed",
        "architecture": "Refused",
        "quantization": "Refused",
        "givenTemplate": "Refused",
    }


def test_the_program_holds_nothing_that_kubernetes_would_expand() -> None:
    assert "$(" not in PROGRAM
    assert "$$" not in PROGRAM
    assert len(PROGRAM.encode()) < 32 * 1024, "the API server keeps it in every such Job"
