"""``python -m e2e.contract``: run the contract suite against engines and say where each differs from real vLLM."""

from __future__ import annotations

import argparse
import asyncio
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

from e2e.cluster import ClusterError
from e2e.contract import flags, pods, report, results
from e2e.contract.engine import Engine, Kind
from e2e.contract.local import ProcessLauncher, llm_d, simulator, write_adapter
from e2e.contract.pods import PodLauncher
from e2e.contract.process import PROCESS_CASES, Launcher, run_process_cases
from e2e.contract.results import Record
from e2e.contract.run import chosen, run_all

_POD_KINDS: dict[str, Kind] = {"vllm-cpu": "vllm", "vllm-sim": "sim"}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m e2e.contract", description=__doc__)
    top.add_argument("--engine", action="append", default=[], metavar="NAME=URL", help="an engine that runs already")
    top.add_argument("--kind", choices=("vllm", "sim", "llm-d"), default="vllm", help="what those engines are")
    top.add_argument("--version", default=results.NEWEST_REFERENCE, help="the vLLM version they are compared with")
    top.add_argument("--adapter", default="", help="a LoRA adapter that those engines can read")
    top.add_argument("--sim", action="append", default=[], metavar="VERSION", help="the simulator as a version, here")
    top.add_argument("--llm-d", type=Path, metavar="BINARY", help="llm-d-inference-sim as a process here")
    top.add_argument(
        "--in-cluster", nargs="+", default=[], metavar="IMAGE:TAG", help="images of the cluster in use, as pods"
    )
    top.add_argument("--models", type=Path, help="directory on the node with the tiny model; the cluster's by default")
    top.add_argument("--only", default="*", metavar="PATTERN", help="cases by name")
    top.add_argument("--record", action="store_true", help="keep these results as the recorded ones")
    top.add_argument("--out", type=Path, help="write the results of the last engine to a file")
    top.add_argument("--write-docs", action="store_true", help="renew docs/simulator.md from the recorded results")
    top.add_argument("--flags-table", type=Path, metavar="HELP", help="print the flag table of a vllm help text")
    return top


def main() -> int:
    """Run what was asked for; 1 when an engine differs in an unlisted way."""
    arguments = parser().parse_args()
    if arguments.flags_table:
        print(flags.table(arguments.flags_table.read_text(encoding="utf-8")), end="")
        return 0
    try:
        with TemporaryDirectory(prefix="contract-") as folder:
            records = asyncio.run(run(arguments, Path(folder)))
    except (ClusterError, RuntimeError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    for record in records:
        if arguments.record:
            results.save(results.merged(record), results.path(record.name))
        if arguments.out:
            results.save(record, arguments.out)
    if arguments.write_docs:
        report.write_document(results.recorded().values())
    if not records:
        return 0
    print(report.terminal(records))
    return int(any(report.against_reference(record)[1] for record in records if record.kind != "llm-d"))


async def run(arguments: argparse.Namespace, folder: Path) -> list[Record]:
    """Run the suite against every engine that was named."""
    records = []
    for text in arguments.engine:
        name, _, url = text.partition("=")
        engine = Engine(name, arguments.kind, arguments.version, url.rstrip("/"), adapter_path=arguments.adapter)
        cases = await run_all(engine, chosen(engine, arguments.only), progress)
        records.append(Record(name, engine.kind, engine.version, cases))
    if arguments.in_cluster:
        await pods.clean()
    try:
        for launcher in launchers(arguments, folder):
            records.append(await run_launched(launcher, arguments.only))  # noqa: PERF401 - one engine at a time
    finally:
        if arguments.in_cluster:
            await pods.clean()
    return records


def launchers(arguments: argparse.Namespace, folder: Path) -> list[ProcessLauncher | PodLauncher]:
    """The engines to start."""
    found: list[ProcessLauncher | PodLauncher] = []
    found += [simulator(version, write_adapter(folder)) for version in arguments.sim]
    if arguments.llm_d:
        found.append(llm_d(arguments.llm_d))
    for image in arguments.in_cluster:
        name, _, tag = image.partition(":")
        kind = _POD_KINDS[name]
        version = tag.removeprefix("v") or arguments.version
        found.append(PodLauncher(f"{kind}-{version}", kind, version, image, models=arguments.models))
    return found


async def run_launched(launcher: ProcessLauncher | PodLauncher, pattern: str) -> Record:
    """Run the cases that share one engine, then those that need their own."""
    cases = {}
    running = await launcher.start()
    try:
        wanted = chosen(running.engine, pattern)
        cases.update(await run_all(running.engine, wanted, progress))
    finally:
        await running.kill()
    lives: Launcher = launcher
    names = [name for name in PROCESS_CASES if fnmatchcase(name, pattern)]
    cases.update(await run_process_cases(lives, names, progress))
    return Record(launcher.name, launcher.kind, launcher.version, cases)


def progress(line: str) -> None:
    """One line per case, on standard error."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
