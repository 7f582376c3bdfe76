"""A benchmark in a network and a process namespace of its own: it meets nobody, and what it starts ends with it."""

import os
import subprocess
import sys
from collections.abc import Callable

_INSIDE = "NIGHTSHIFT_BENCH_INSIDE"


def enter(prepare: Callable[[], None]) -> None:
    """Begin this program anew in namespaces of its own, and end with its exit status; there: go on.

    Args:
        prepare: Gets what is out of reach where there is no network.

    Raises:
        SystemExit: It ended there, or this account may not make namespaces.
    """
    if _INSIDE in os.environ:
        return
    if os.getuid() != 0:
        raise SystemExit("this benchmark needs root, for namespaces of its own: run it as root")
    prepare()
    variables = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"} | {_INSIDE: "1"}
    command = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", *_own_command()]
    raise SystemExit(subprocess.run(command, env=variables, check=False).returncode)


def _own_command() -> list[str]:
    module = sys.modules["__main__"].__spec__
    assert module is not None
    return [sys.executable, "-m", module.name, *sys.argv[1:]]
