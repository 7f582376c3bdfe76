"""`python -m nightshift.gateway agent|activator`: the processes of a gateway pod beside HAProxy."""

import sys
from importlib import import_module

PROCESSES = ("agent", "activator")


def main(arguments: list[str]) -> int:
    """Run the process that the arguments name."""
    if len(arguments) != 1 or arguments[0] not in PROCESSES:
        sys.stderr.write(f"usage: python -m nightshift.gateway {'|'.join(PROCESSES)}\n")
        return 2
    # Each process loads what it needs: the activator's memory is bounded.
    status: int = import_module(f"nightshift.gateway.{arguments[0]}").main()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
