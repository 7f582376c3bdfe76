"""``python -m tools.generate WHAT [--check]``: the files that are generated, and whether they are current."""

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tools import manifests, metrics_reference, phases, reference, transcript
from tools.helm import HelmError
from tools.repository import ROOT


@dataclass(frozen=True)
class Generated:
    """A file and what makes its text."""

    path: Path
    """Relative to the repository's root."""
    text: Callable[[], str]


GENERATED = {
    "crd": Generated(Path("crds/llmdeployments.yaml"), manifests.crd),
    "chart": Generated(Path("charts/nightshift/templates/crds.yaml"), manifests.chart_crd),
    "install": Generated(Path("install.yaml"), manifests.install),
    "api-reference": Generated(Path("docs/api.md"), reference.api_reference),
    "metrics": Generated(Path("docs/metrics.md"), metrics_reference.metrics_reference),
    "rollouts": Generated(phases.PAGE, phases.rollouts),
    "readme": Generated(transcript.PAGE, transcript.readme),
}
"""By the name used on the command line, in the order in which they depend on each other."""


def is_current(item: Generated, root: Path = ROOT) -> bool:
    """Whether a generated file holds what would be written now."""
    path = root / item.path
    return path.is_file() and path.read_text() == item.text()


def write(item: Generated, root: Path = ROOT) -> None:
    """Write a generated file."""
    path = root / item.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(item.text())


def main() -> int:
    """Write or check the files that are named on the command line; 1 where one is not current."""
    parser = argparse.ArgumentParser(prog="python -m tools.generate", description=__doc__)
    parser.add_argument("what", choices=[*GENERATED, "all"])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not current")
    arguments = parser.parse_args()
    chosen = GENERATED.values() if arguments.what == "all" else [GENERATED[arguments.what]]
    try:
        return _check(chosen) if arguments.check else _write(chosen)
    except HelmError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _check(chosen: Iterable[Generated]) -> int:
    stale = [str(item.path) for item in chosen if not is_current(item)]
    for path in stale:
        sys.stderr.write(f"{path} is not current; run: make generate\n")
    return 1 if stale else 0


def _write(chosen: Iterable[Generated]) -> int:
    for item in chosen:
        write(item)
        sys.stdout.write(f"{item.path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
