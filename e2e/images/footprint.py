"""How much disk the images still need, said before hours of building rather than after."""

import os
from pathlib import Path

from e2e.cluster.settings import Settings

from .catalogue import CATALOGUE, GIB, Image

FIRST_ENGINE = CATALOGUE["vllm-cpu:0.32.0"].peak_bytes
FURTHER_ENGINE = 4 * GIB
"""A second version shares the layer of torch; what differs is there three times: buildah, registry, containerd."""
OTHERS = 2 * GIB


def disk_to_build(names: tuple[str, ...], settings: Settings) -> int:
    """Bytes that the images of these names still take; little once the engines among them are in the registry.

    Worked example: both versions of vllm-cpu missing, 10 GiB of an interrupted build there: 25 + 4 + 2 - 10 = 21 GiB.
    """
    engines = [name for name in names if name.startswith("vllm-cpu:")]
    missing = [name for name in engines if not in_registry(CATALOGUE[name], settings)]
    if not missing:
        return OTHERS
    shared = FIRST_ENGINE if len(missing) == len(engines) else FURTHER_ENGINE
    whole = shared + FURTHER_ENGINE * (len(missing) - 1) + OTHERS
    if len(missing) < len(engines):
        return whole
    return max(OTHERS, whole - stored(settings))


def in_registry(built: Image, settings: Settings) -> bool:
    """Whether the local registry, which need not run, holds the tag of an image with somebody else's version."""
    repositories = settings.registry / "docker" / "registry" / "v2" / "repositories" / "nightshift"
    return (repositories / built.repository / "_manifests" / "tags" / f"v{built.version}").exists()


def stored(settings: Settings) -> int:
    """Bytes that builds, registry and containerd hold already."""
    return sum(map(tree_bytes, (settings.home / "buildah", settings.registry, settings.containerd)))


def tree_bytes(directory: Path) -> int:
    """Bytes on disk below a directory; what vanishes meanwhile counts nothing, a file with two names once."""
    total, seen = 0, set[tuple[int, int]]()
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                found = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - a hundred thousand files
            except OSError:
                continue
            if found.st_nlink == 1 or (found.st_dev, found.st_ino) not in seen:
                total += found.st_blocks * 512
            if found.st_nlink > 1:
                seen.add((found.st_dev, found.st_ino))
    return total
