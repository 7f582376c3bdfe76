"""From a spec and a configuration to all objects that are made of it, written out."""

from pathlib import Path

import pytest
import yaml

from nightshift.adapters.kube import Object
from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.core.facts import Known
from nightshift.core.observed import ImageAnswer
from tests.support.builders import DIGEST, NOW, config
from tests.support.golden import assert_golden
from tests.support.simulation import Simulation

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name.removesuffix(".in.yaml") for path in GOLDEN.glob("*.in.yaml"))
ANSWER = ImageAnswer(Known(DIGEST, NOW), 1, NOW)
IMAGES = dict.fromkeys(("registry.example/vllm:v0.32.0", "mirror.example:5000/vllm:v0.17.0"), ANSWER)


class PlainDumper(yaml.SafeDumper):
    """Writes equal parts out in full: readers compare text."""

    def ignore_aliases(self, data: object) -> bool:
        return True


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.replace("_", " "))
def test_all_objects_that_are_made_of_a_spec(case: str, regenerate: bool) -> None:
    given = yaml.safe_load((GOLDEN / f"{case}.in.yaml").read_text())
    merged = config().to_json() | given.get("config", {})
    simulation = Simulation(given["spec"], chosen=OperatorConfig.model_validate(merged), images=IMAGES).settle()
    target = str(simulation.status().target_revision)
    objects = [written(raw, simulation.applied[("ReplicaSet", f"bot-{target}")]) for raw in simulation.applied.values()]
    text = yaml.dump_all(objects, Dumper=PlainDumper, sort_keys=False, width=120)
    assert_golden(GOLDEN / f"{case}.out.yaml", text.replace(target, "<revision>"), regenerate=regenerate)


def written(manifest: Object, replica_set: Object) -> Object:
    """The manifest without hashes of itself, and without the pod where it stands a second time."""
    annotations = manifest["metadata"].get("annotations", {})
    if names.ANNOTATION_APPLIED in annotations:
        assert annotations[names.ANNOTATION_APPLIED]
        annotations[names.ANNOTATION_APPLIED] = "<hash>"
    if manifest["kind"] != "ControllerRevision" or "podTemplate" not in manifest["data"]:
        return manifest
    assert manifest["data"]["podTemplate"] == replica_set["spec"]["template"]
    return {**manifest, "data": {**manifest["data"], "podTemplate": "<as in the ReplicaSet>"}}
