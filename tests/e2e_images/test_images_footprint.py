from pathlib import Path

import pytest

from e2e.cluster.checks import DISK_TO_BUILD, GIB
from e2e.cluster.settings import Settings
from e2e.images.footprint import disk_to_build, tree_bytes
from e2e.run import FORMER_ENGINE, STORY_IMAGES
from e2e.setup import DEMO_IMAGES, MEMORY
from tools.repository import ROOT

ALL = (*STORY_IMAGES, FORMER_ENGINE)


def push(settings: Settings, version: str) -> None:
    tags = settings.registry / "docker/registry/v2/repositories/nightshift/vllm-cpu/_manifests/tags"
    (tags / version).mkdir(parents=True)


@pytest.mark.parametrize(
    ("images", "pushed", "expected"),
    [
        pytest.param(DEMO_IMAGES, [], 27, id="the demo from nothing"),
        pytest.param(ALL, [], 31, id="everything from nothing: two engines that share their greatest layer"),
        pytest.param(ALL, ["v0.32.0"], 6, id="after the demo: the second engine"),
        pytest.param(ALL, ["v0.32.0", "v0.31.0"], 2, id="with all engines there: our own small images"),
    ],
)
def test_the_disk_that_images_still_take(
    tmp_path: Path, images: tuple[str, ...], pushed: list[str], expected: int
) -> None:
    settings = Settings(tmp_path)
    for version in pushed:
        push(settings, version)
    assert disk_to_build(images, settings) == expected * GIB


def test_what_an_interrupted_build_left_counts(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    whole = disk_to_build(ALL, settings)
    part = settings.home / "buildah" / "root" / "layer"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 100_000)
    assert whole - disk_to_build(ALL, settings) == tree_bytes(settings.home) >= 100_000


def test_a_file_with_two_names_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 100_000)
    before = tree_bytes(tmp_path)
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    assert tree_bytes(tmp_path) == before


def test_the_pages_ask_for_what_is_checked(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    demo, everything = ((DISK_TO_BUILD + disk_to_build(images, settings)) // GIB for images in (DEMO_IMAGES, ALL))
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"{MEMORY // GIB} GiB of memory and {everything} GiB of free disk ({demo} for the demo" in readme
    page = " ".join((ROOT / "docs" / "local-cluster.md").read_text().split())
    assert f"`make demo` asks for {demo} GiB free on a fresh machine and `make test` for {everything}" in page
