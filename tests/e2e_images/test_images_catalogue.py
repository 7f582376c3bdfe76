"""Checksums and references of images."""

from dataclasses import replace
from pathlib import Path

import pytest

from e2e.cluster.settings import ClusterError, Settings
from e2e.images import catalogue
from e2e.images.catalogue import CATALOGUE, Image, Inputs

BUILT = Image("operator", "operator", ("requirements/runtime.txt", "operator/nightshift"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in {
        "images/operator/Dockerfile": "FROM base",
        "requirements/runtime.txt": "kopf==1",
        "operator/nightshift/__init__.py": "",
        "operator/nightshift/core/plan.py": "x = 1",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBECONFIG", "NIGHTSHIFT_IMAGE_PREFIX", "NIGHTSHIFT_IMAGE_TAG"):
        monkeypatch.delenv(name, raising=False)


def inputs(checkout: Path) -> Inputs:
    return catalogue.inputs_of(BUILT, Settings(checkout / "home"), checkout)


def test_the_inputs_are_the_copied_files_and_no_caches(checkout: Path) -> None:
    cache = checkout / "operator/nightshift/__pycache__"
    cache.mkdir()
    (cache / "plan.cpython-311.pyc").write_bytes(b"x")

    assert sorted(inputs(checkout).files) == [
        "operator/nightshift/__init__.py",
        "operator/nightshift/core/plan.py",
        "requirements/runtime.txt",
    ]


def test_the_checksum_stays_when_nothing_but_times_and_unused_files_change(checkout: Path) -> None:
    before = inputs(checkout).checksum
    (checkout / "operator/nightshift/core/plan.py").touch()
    (checkout / "README.md").write_text("not copied")

    assert inputs(checkout).checksum == before


@pytest.mark.parametrize(
    "changed", ["images/operator/Dockerfile", "requirements/runtime.txt", "operator/nightshift/core/plan.py"]
)
def test_the_checksum_changes_with_each_input(checkout: Path, changed: str) -> None:
    before = inputs(checkout).checksum
    (checkout / changed).write_text("other")

    assert inputs(checkout).checksum != before


def test_the_checksum_changes_with_name_mode_arguments_and_parent(checkout: Path) -> None:
    start = inputs(checkout)
    path = checkout / "requirements/runtime.txt"
    renamed = replace(start, files={**start.files, "requirements/other.txt": path})
    seen = {
        start.checksum,
        renamed.checksum,
        replace(start, parent="another base").checksum,
        replace(start, arguments=(("VLLM_VERSION", "0.32.0"),)).checksum,
        replace(start, arguments=(("VLLM_VERSION", "0.31.0"),)).checksum,
    }
    path.chmod(0o755)
    seen.add(start.checksum)

    assert len(seen) == 6


def test_a_missing_input_is_named_with_a_remedy(checkout: Path) -> None:
    (checkout / "requirements/runtime.txt").unlink()

    with pytest.raises(ClusterError, match=r"runtime\.txt is missing"):
        inputs(checkout)


def test_the_hub_holds_the_trained_models_only(checkout: Path) -> None:
    settings = Settings(checkout / "home")
    hub = replace(BUILT, models=True)
    with pytest.raises(ClusterError, match="not trained") as refused:
        catalogue.inputs_of(hub, settings, checkout)
    assert refused.value.remedy == "python -m e2e.model build"

    weights = settings.home / "models/tiny/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"w")
    (settings.home / "models/golden.jsonl").write_text("{}")

    models = {name for name in catalogue.inputs_of(hub, settings, checkout).files if name.startswith("models/")}
    assert models == {"models/tiny/model.safetensors"}


def test_every_image_of_this_checkout_has_its_dockerfile_and_inputs(tmp_path: Path) -> None:
    for built in CATALOGUE.values():
        assert (catalogue.REPOSITORY_ROOT / built.dockerfile).is_file()
        found = catalogue.inputs_of(replace(built, models=False), Settings(tmp_path))
        assert len(found.files) >= len(built.inputs)


def test_our_images_are_tagged_by_their_inputs_and_engines_by_their_version(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    operator = catalogue.inputs_of(CATALOGUE["operator"], settings).checksum

    assert catalogue.image("operator", settings) == f"10.250.0.1:5000/nightshift/operator:{operator[:12]}"
    assert catalogue.image("vllm-cpu:0.32.0", settings) == "10.250.0.1:5000/nightshift/vllm-cpu:v0.32.0"


def test_another_prefix_moves_every_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_IMAGE_PREFIX", "registry.example.org/team/")

    reference = catalogue.image("vllm-cpu:0.31.0", Settings(tmp_path))
    assert reference == "registry.example.org/team/vllm-cpu:v0.31.0"


def test_a_cluster_of_the_user_gets_published_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "theirs"))
    with pytest.raises(ClusterError, match="where it pulls images from"):
        catalogue.image("operator", settings)

    monkeypatch.setenv("NIGHTSHIFT_IMAGE_PREFIX", "registry.example.org/team")
    assert catalogue.image("operator", settings) == "registry.example.org/team/operator:dev"
    monkeypatch.setenv("NIGHTSHIFT_IMAGE_TAG", "0.1.0")
    assert catalogue.image("operator", settings) == "registry.example.org/team/operator:0.1.0"
    assert catalogue.image("vllm-cpu:0.32.0", settings) == "registry.example.org/team/vllm-cpu:v0.32.0"


def test_our_own_kubeconfig_is_no_cluster_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(settings.kubeconfig))

    assert catalogue.image("operator", settings).startswith("10.250.0.1:5000/nightshift/operator:")
