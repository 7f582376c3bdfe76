"""Finding helm and rendering the chart with it, without a cluster."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.settings import Settings
from tools.repository import ROOT

CHART = ROOT / "charts" / "nightshift"
KUBERNETES_VERSION = "1.34.0"
"""The version that templates are rendered for; the chart asks for 1.30 or newer."""


class HelmError(Exception):
    """helm is missing or refused; the message is what it said, with the remedy."""


def find_helm() -> Path:
    """The helm of the local cluster's tools, or else the one on the PATH.

    Raises:
        HelmError: There is none.
    """
    own = Settings.from_environment().bin / "helm"
    if own.exists():
        return own
    found = shutil.which("helm")
    if found is None:
        raise HelmError(f"There is no helm in {own.parent} or on the PATH; run: python -m e2e.cluster tool helm")
    return Path(found)


def run_helm(*arguments: str) -> str:
    """Run helm; what it wrote to stdout.

    Raises:
        HelmError: It is missing or ended with an error.
    """
    command = [str(find_helm()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise HelmError(f"helm {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def render(
    settings: Sequence[str] = (),
    *,
    release: str = "nightshift",
    namespace: str = "nightshift-system",
    values: Sequence[Path] = (),
) -> list[dict[str, Any]]:
    """Render the chart into objects.

    Args:
        settings: As after ``--set``.
        release: Name of the release.
        namespace: The release's namespace.
        values: Files of values.

    Raises:
        HelmError: helm is missing, or the values are refused.
    """
    text = run_helm(
        "template",
        release,
        str(CHART),
        "--namespace",
        namespace,
        "--kube-version",
        KUBERNETES_VERSION,
        *(item for path in values for item in ("--values", str(path))),
        *(item for setting in settings for item in ("--set", setting)),
    )
    return [found for found in yaml.safe_load_all(text) if found is not None]


def notes(settings: Sequence[str] = (), *, namespace: str = "nightshift-system") -> str:
    """What the chart tells whoever installs it.

    Raises:
        HelmError: helm is missing, or the values are refused.
    """
    chosen = [item for setting in settings for item in ("--set", setting)]
    said = run_helm("install", "nightshift", str(CHART), "--dry-run=client", "--namespace", namespace, *chosen)
    return said.partition("\nNOTES:\n")[2]
