"""The table of bad inputs without a cluster: what passes admission, and what engines say, comes to the named cause."""

import copy
import subprocess
import sys
from typing import Any

import jsonschema
import pytest

from e2e.stories.bad_inputs import ARGUMENTS, FAILING, FOREIGN, MEMORY, RECORDED, BadInput
from e2e.stories.refused_inputs import REFUSED
from nightshift.api import names
from nightshift.api.resource import parse
from nightshift.api.schema import custom_resource_definition
from nightshift.core.causes import Said, pod_cause
from nightshift.core.engine_log import engine_failure
from tests.support.builders import body, container, pod
from tools.repository import ROOT
from vllm_sim.flags import parse as parse_flags
from vllm_sim.versions import Version

TERMINATION_MESSAGE_BYTES = 2048
"""What a kubelet keeps of a log (FallbackToLogsOnError)."""


def rows(*groups: tuple[BadInput, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", [row for group in groups for row in group], ids=lambda row: row.what)


def spec_of(row: BadInput) -> dict[str, Any]:
    spec = {"model": {"uri": "hf://nightshift/tiny"}, **copy.deepcopy(dict(row.spec))}
    return spec | ({"engine": dict(row.engine)} if row.engine else {})


def told(row: BadInput, log: str, code: int) -> None:
    """The cause of a pod whose engine wrote this log and ended."""
    engine = container(
        exit_code=code,
        restarts=1,
        waiting_reason="CrashLoopBackOff",
        termination_message=log[-TERMINATION_MESSAGE_BYTES:] if code else "",
    )
    said = Said(engine_failure(log), str(row.engine.get("version", "0.32.0")))
    cause = pod_cause(pod(containers=(engine,)), said)
    assert cause is not None
    assert cause.reason == row.reason
    assert [word for word in row.says if word not in cause.message] == []


def test_there_are_sixty_and_most_pass_admission() -> None:
    assert len(FAILING) + len(REFUSED) >= 60
    assert len(FAILING) >= 35
    everything = [row.what for row in FAILING] + list(REFUSED)
    assert len(set(everything)) == len(everything)
    assert [row.what for row in FAILING if not (row.spec or row.engine or row.objects)] == []


@rows(tuple(row for row in FAILING if row not in FOREIGN))
def test_what_fails_later_passes_the_schema_and_is_understood(row: BadInput) -> None:
    spec = spec_of(row)
    if str(spec.get("engine", {}).get("image", "")).startswith("REGISTRY"):
        spec["engine"]["image"] = "registry.example/nosuch"
    resource = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "bot"}, "spec": spec}
    schema = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    jsonschema.Draft4Validator(schema).validate(resource)
    assert parse(body(spec)).spec.model.uri


@rows(ARGUMENTS)
def test_what_the_parser_prints_is_named(row: BadInput, capsys: pytest.CaptureFixture[str]) -> None:
    version = Version.parse(str(row.engine.get("version", "0.32.0")))
    with pytest.raises(SystemExit) as ended:
        parse_flags(["/models/x", *row.engine["args"]], version)
    told(row, capsys.readouterr().err, int(ended.value.code or 0))


@rows(RECORDED)
def test_what_vllm_printed_is_named(row: BadInput) -> None:
    told(row, row.engine["env"][0]["value"], 1)


@rows(MEMORY)
def test_what_the_simulated_engine_prints_is_named(row: BadInput) -> None:
    environment = {item["name"]: item["value"] for item in row.engine["env"]}
    done = subprocess.run(
        [sys.executable, "-m", "vllm_sim", "/models/x", "--port=0", *row.engine["args"]],
        env={"PYTHONPATH": str(ROOT / "images" / "vllm-sim"), **environment},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    told(row, done.stderr, done.returncode)
