"""``python -m vllm_sim MODEL [vllm serve options]``."""

from __future__ import annotations

import asyncio
import os
import sys

from vllm_sim.faults import FaultsError
from vllm_sim.faults import parse as parse_faults
from vllm_sim.flags import parse
from vllm_sim.lifecycle import serve
from vllm_sim.settings import SettingsError, load


def main() -> int:
    """Run the simulator; the exit code."""
    try:
        settings = load(os.environ)
        faults = parse_faults(settings.faults)
    except (SettingsError, FaultsError) as error:
        print(f"vllm_sim: {error}", file=sys.stderr)
        return 2
    if settings.failure:
        print(settings.failure, file=sys.stderr)
        return 1
    arguments = parse(sys.argv[1:], settings.release)
    return asyncio.run(serve(settings, arguments, os.environ, faults))


if __name__ == "__main__":
    sys.exit(main())
