"""Runs inside an engine image: starts vLLM with each of many bad inputs and prints what it printed, one JSON a line.

Stands alone, since it is handed to the image's own Python. Each start is a fork of a process that has imported vLLM
already: the imports take half a minute, what is wrong is found within a second after them. From there on it is the
command `vllm`, with the arguments of the case.

    python3 - PLAN        PLAN: {"models": DIRECTORY, "cases": {NAME: {"model": NAME, "arguments": [...]}}}
"""

import importlib
import json
import os
import shutil
import signal
import socket
import sys
import time
import types
from pathlib import Path
from typing import Any

MODELS = "/tmp/models"
"""Where the copies of the tiny model are made."""
SCRIPT = "/opt/vllm/bin/vllm"
TAKEN_PORT = 8000
LIMIT_SECONDS = 180.0
IMPORTS = ("vllm.entrypoints.cli.main", "vllm.entrypoints.cli.serve", "vllm.engine.arg_utils", "transformers")


def config_of(tiny: Path, **changes: Any) -> str:
    """The model's config.json with some keys replaced."""
    return json.dumps(json.loads((tiny / "config.json").read_text()) | changes)


def make_models(tiny: Path, where: Path) -> None:
    """Copies of the tiny model, each with one thing wrong."""
    awq = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}
    own = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    configs = {
        "arch": config_of(tiny, architectures=["TotallyNewForCausalLM"]),
        "type": config_of(tiny, model_type="llamax"),
        "remote": config_of(tiny, model_type="own", architectures=["OwnForCausalLM"], auto_map=own),
        "awq": config_of(tiny, quantization_config=awq),
        "badjson": config_of(tiny)[:40],
        "notokenizer": config_of(tiny),
    }
    for name, config in configs.items():
        shutil.copytree(tiny, where / name)
        (where / name / "config.json").chmod(0o644)
        (where / name / "config.json").write_text(config)
    (where / "remote" / "configuration_own.py").write_text("")
    (where / "remote" / "modeling_own.py").write_text("")
    for file in (where / "notokenizer").glob("*tokenizer*"):
        file.unlink()
    (where / "noconfig").mkdir()
    (where / "tiny").symlink_to(tiny)


def hide_this_program(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    """Print an error as `vllm` itself would: from its script on."""
    while trace is not None and trace.tb_frame.f_code.co_filename != SCRIPT:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def become_vllm(arguments: list[str], output: Path) -> None:
    """Be the command from here on; it ends as the process does."""
    os.setsid()
    file = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = [SCRIPT, "serve", *arguments]
    sys.excepthook = hide_this_program
    exec(compile(Path(SCRIPT).read_text(), SCRIPT, "exec"), {"__name__": "__main__"})


def wait(child: int) -> int | None:
    """The exit code; None for one that had to be ended because it did not fail."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> None:
    """Start vLLM once for each case."""
    plan = json.loads(sys.argv[1])
    where = Path(MODELS)
    make_models(Path(plan["models"]) / "tiny", where)
    for module in IMPORTS:
        importlib.import_module(module)
    taken = socket.create_server(("127.0.0.1", TAKEN_PORT))
    for name, case in plan["cases"].items():
        output = Path(f"/tmp/{name}.txt")
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            taken.detach()
            become_vllm([str(where / case["model"]), *case["arguments"]], output)
            return
        code = wait(child)
        print(json.dumps({"case": name, "code": code, "text": output.read_text(errors="replace")}), flush=True)


if __name__ == "__main__":
    main()
