"""``python -m vllm_sim MODEL [vllm serve options]``."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from vllm_sim.flags import parse
from vllm_sim.settings import SettingsError, load


def main() -> int:
    """Run the simulator; the exit code."""
    try:
        settings = load(os.environ)
    except SettingsError as error:
        return _refuse(error)
    if settings.failure:
        time.sleep(settings.failure_seconds)
        print(settings.failure, file=sys.stderr)
        return 1
    arguments = parse(sys.argv[1:], settings.release)
    # What serves takes most of a start's processor time to import: engines that fail, of which there are many side by
    # side and again and again, go without.
    from vllm_sim.faults import FaultsError
    from vllm_sim.faults import parse as parse_faults
    from vllm_sim.lifecycle import serve

    try:
        faults = parse_faults(settings.faults)
    except FaultsError as error:
        return _refuse(error)
    return asyncio.run(serve(settings, arguments, os.environ, faults))


def _refuse(error: Exception) -> int:
    print(f"vllm_sim: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
