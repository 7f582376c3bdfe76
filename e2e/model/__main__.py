"""`python -m e2e.model build`: train the tiny model and its variants, unless they are there already."""

import argparse
import sys

from e2e.cluster import preflight
from e2e.cluster.settings import ClusterError, Settings
from e2e.cluster.steps import Steps

from .building import build


def main() -> int:
    """Run one command; a refusal is printed with its remedy."""
    top = argparse.ArgumentParser(prog="python -m e2e.model", description=__doc__)
    top.add_subparsers(dest="command", required=True).add_parser("build", help="train what is not there")
    top.parse_args()
    try:
        preflight.demand_root()
        print(build(Settings.from_environment(), Steps()))
    except ClusterError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command starts the training again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
