"""`make test` and `make e2e`: set up, tell the stories, sum up."""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from e2e.cluster import ClusterError, Settings, access
from e2e.cluster.settings import user_kubeconfig
from e2e.setup import DEMO_IMAGES, install_everything, prepare, say
from e2e.stories.conftest import records
from e2e.support.client import Client, KubectlError
from e2e.support.install import RELEASE, SYSTEM
from e2e.support.lane import ROOT, StepError
from e2e.support.parent import end_with_parent
from e2e.support.rights import Right, granted, written

STORY_IMAGES = (*DEMO_IMAGES, "operator-next", "vllm-sim:0.31.0", "vllm-sim:0.32.0")
FORMER_ENGINE = "vllm-cpu:0.31.0"
"""The contract is checked on it too, and a rollout begins with it, but not by `make test`."""
SECOND_OPINION = "llm-d-inference-sim"
"""Likewise: it takes minutes to build, and its differences are reported without being judged."""
NO_TESTS_RUN = 5
"""pytest's exit code where every story was passed over, or none has the name."""


def tell_stories(name: str | None, *, long: bool) -> int:
    """Run the stories that are not green on this tree yet; pytest's exit code, 0 where all are green.

    Args:
        name: Only stories whose name contains this.
        long: Those of many minutes too, for which `make test` has no time.
    """
    command = [sys.executable, "-m", "pytest", "e2e/stories", "--resume", "-s", "-p", "no:cacheprovider"]
    if name:
        command += ["-k", name]
    if not long:
        command += ["-m", "not long"]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code != NO_TESTS_RUN:
        return code
    green = [row["story"] for row in green_stories() if not name or name in row["story"]]
    if not green:
        print(f"No story has {name!r} in its name; see e2e/stories", file=sys.stderr)
        return code
    install_everything(Client(access()))  # no story did, and the release of another checkout may stand there
    return 0


def check_contract(*, whole: bool) -> int:
    """Run the engine contract in the cluster; 0 where every difference is a listed one.

    Args:
        whole: On the former version of vLLM and a second simulator too, for which `make test` has no time.
    """
    command = [sys.executable, "-m", "e2e.contract", "--in-cluster", *(["vllm-cpu:v0.31.0"] if whole else [])]
    command += ["vllm-cpu:v0.32.0", *(["--llm-d", str(access().home / "bin" / SECOND_OPINION)] if whole else [])]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def green_stories() -> list[dict[str, Any]]:
    """The records of the stories that are green on this tree."""
    return [json.loads(path.read_text()) for path in sorted(records().glob("*.json"))]


def unused_rights() -> int:
    """Whether the operator was given rights that no green story used; 0 where it was not.

    Only all stories together tell: each keeps in its record what was used while it ran.
    """
    if not access().local:
        say("not judged: whether every right of the operator is used; that cluster's audit log is not ours to read.")
        return 0
    found: set[Right] = {tuple(right) for row in green_stories() for right in row["rights"]}
    given = granted(Client(access()), SYSTEM, RELEASE)
    unused = given - found
    print(f"\nThe stories used {len(found)} rights of {len(given)}; unused: {', '.join(written(unused)) or 'none'}")
    return 1 if unused or not given else 0


def summary() -> None:
    """What is green on this tree, with the engine of each story."""
    print("\nStories that are green on this tree:")
    for row in green_stories():
        print(f"  {row['seconds']:7.1f} s  {row['engine']:<24} {row['story']}")


def main() -> int:
    """Run a suite."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", choices=("test", "all", "contract"), default="all")
    parser.add_argument("--story", help="only stories whose name contains this")
    options = parser.parse_args()
    started = time.monotonic()
    stories = options.suite in ("test", "all")
    contract = options.suite in ("test", "contract") or (options.suite == "all" and not options.story)
    if contract and user_kubeconfig(Settings.from_environment()):
        contract = False
        say("skipped: the engine contract. Its engines read the tiny model from the node's disk, and KUBECONFIG names")
        say("a cluster whose nodes are not ours; `make fast` compares the simulator with what real vLLM answered.")
    whole = contract and options.suite != "test"
    former = whole or (stories and options.suite != "test")
    images = (STORY_IMAGES if stories else DEMO_IMAGES) + ((FORMER_ENGINE,) if former else ())
    try:
        prepare(f"the suite {options.suite!r}", images, (SECOND_OPINION,) if whole else ())
    except (ClusterError, StepError, KubectlError) as error:
        print(f"The setup stopped: {error}", file=sys.stderr)
        return 1
    say(f"set up in {time.monotonic() - started:.0f} s")
    codes = []
    if stories:
        codes.append(tell_stories(options.story, long=options.suite == "all"))
        summary()
        if codes == [0] and not options.story:
            codes.append(unused_rights())
    if contract:
        codes.append(check_contract(whole=whole))
    say(f"suite {options.suite} took {time.monotonic() - started:.0f} s")
    failed = sum(code != 0 for code in codes)
    print(f"{len(codes) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main())
