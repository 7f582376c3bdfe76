"""``python -m e2e.cluster``: the local cluster's commands."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable

from . import access, builds, current, lifecycle, packages, preflight, reach, remains, selfcheck
from .settings import ClusterError, Settings, user_kubeconfig
from .steps import Steps
from .tools import ALL_MODULES, TOOLS

AS_ROOT = frozenset({"check", "up", "down", "packages", "purge", "selfcheck", "gpus", "kwok"})
"""What concerns the local cluster itself, not its clients."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m e2e.cluster", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="whether this machine can run it; changes nothing")
    commands.add_parser("up", help="start the cluster, or what is missing of it")
    commands.add_parser("down", help="stop it and remove its data; images and binaries stay")
    commands.add_parser("packages", help="install the Debian packages that the cluster and the images need")
    commands.add_parser("status", help="what runs; fails unless the cluster answers")
    commands.add_parser("env", help='shell lines that point kubectl and helm at it: eval "$(... env)"')
    commands.add_parser("leftovers", help="list what is on the machine; fails if there is anything")
    commands.add_parser("purge", help="down, and delete the whole home")
    commands.add_parser(
        "selfcheck", help="kill and restart the cluster in every way, show that it holds; ends with down"
    )
    gpus = commands.add_parser("gpus", help="give the node fake GPUs")
    gpus.add_argument("count", type=int)
    kwok = commands.add_parser("kwok", help="build and start KWOK, with fake nodes")
    kwok.add_argument("nodes", type=int, nargs="?", default=0)
    tool = commands.add_parser("tool", help="build one binary and print its path")
    tool.add_argument("name", choices=sorted([*TOOLS, *builds.CLIENTS]))
    tidy = commands.add_parser("tidy", help="rewrite go.mod and go.sum after a change of versions")
    tidy.add_argument("modules", nargs="+", choices=[module.name for module in ALL_MODULES if module.requires])
    return top


def main() -> int:
    """Run one command; a refusal is printed with its remedy."""
    arguments = parser().parse_args()
    settings, steps = Settings.from_environment(), Steps()
    try:
        return run_command(arguments, settings, steps)
    except ClusterError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def run_command(arguments: argparse.Namespace, settings: Settings, steps: Steps) -> int:
    """Dispatch; the exit status."""
    chosen = user_kubeconfig(settings)
    if chosen and arguments.command in {"check", "up"}:
        use_theirs(settings, steps, chosen)
        return 0
    if chosen and arguments.command in AS_ROOT:
        raise ClusterError(f"KUBECONFIG names {chosen}, which is not ours to change", "unset KUBECONFIG")
    if arguments.command in AS_ROOT | {"leftovers"}:
        preflight.demand_root()
    commands: dict[str, Callable[[], int | None]] = {
        "check": lambda: check_machine(settings, steps),
        "up": lambda: bring_up(settings, steps),
        "down": lambda: lifecycle.down(settings, steps),
        "purge": lambda: lifecycle.purge(settings, steps),
        "packages": lambda: install_packages(settings, steps),
        "status": lambda: show_status(settings),
        "env": lambda: show_environment(settings),
        "leftovers": lambda: show_leftovers(settings),
        "gpus": lambda: lifecycle.set_gpus(settings, arguments.count),
        "kwok": lambda: lifecycle.start_kwok(settings, steps, arguments.nodes),
        "tool": lambda: build_tool(settings, arguments.name),
        "selfcheck": lambda: selfcheck.run_all(settings, steps),
        "tidy": lambda: builds.tidy(arguments.modules, settings),
    }
    return commands[arguments.command]() or 0


def use_theirs(settings: Settings, steps: Steps, chosen: str) -> None:
    """Ask the user's cluster whether it answers; of this machine nothing is needed but two clients."""
    with steps.step("kubectl and helm") as step:
        step.note = reach.clients(settings)
    with steps.step(f"the cluster of {chosen}") as step:
        current()
        step.note = "answers"


def check_machine(settings: Settings, steps: Steps) -> None:
    """Say what stands in the way of a cluster here."""
    with steps.step("check the machine"):
        preflight.check(settings)


def bring_up(settings: Settings, steps: Steps) -> None:
    """Start the local cluster and say how to use it."""
    lifecycle.up(settings, steps)
    print(f'\nThe cluster is up: eval "$({shlex.quote(sys.executable)} -m e2e.cluster env)"')


def install_packages(settings: Settings, steps: Steps) -> None:
    """Install what is missing, before anything else runs beside it."""
    with remains.exclusive(settings), steps.step("packages") as step:
        step.note = packages.install(settings)


def show_status(settings: Settings) -> int:
    """Print the components' state."""
    if user_kubeconfig(settings):
        print(f"the cluster of {current().kubeconfig} answers")
        return 0
    lines = lifecycle.status(settings)
    print("\n".join(lines))
    return 0 if lines[-1].endswith(" answers") else 1


def show_environment(settings: Settings) -> None:
    """Print shell lines."""
    found = access()
    values = {"NIGHTSHIFT_HOME": str(settings.home), "KUBECONFIG": found.kubeconfig}
    path = os.environ.get("PATH", "").split(os.pathsep)
    if str(settings.bin) not in path:
        values["PATH"] = os.pathsep.join([str(settings.bin), *path])
    for name, value in values.items():
        print(f"export {name}={shlex.quote(value)}")


def show_leftovers(settings: Settings) -> int:
    """Print what a cluster has on this machine."""
    lines = remains.find(settings).lines()
    print("\n".join(lines) or "nothing is left")
    return 1 if lines else 0


def build_tool(settings: Settings, name: str) -> None:
    """Build or install one binary; its path goes to stdout, the progress to stderr."""
    steps = Steps(out=sys.stderr)
    with remains.exclusive(settings), steps.step(name) as step:
        step.note = builds.clients(settings) if name in builds.CLIENTS else builds.build(settings, TOOLS[name])
    print(settings.bin / name)


if __name__ == "__main__":
    sys.exit(main())
