"""Programs that come from Debian packages."""

import os
import shutil
import subprocess
from pathlib import Path

from .processes import SYSTEM_PATH, log_path, run, tail
from .settings import ClusterError, Settings

PROGRAMS = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "socat": "socat",
    "ethtool": "ethtool",
    "ip": "iproute2",
    "mount": "mount",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
    "/usr/sbin/haproxy": "haproxy",
}
"""Program (or file) -> Debian package. A program that is there already is used, whatever brought it."""

SERVICES = frozenset({"containerd", "haproxy"})
"""Packages that switch a service on. HAProxy is there for the gateway's tests, which run it on Debian's version too."""


def missing_packages(present: frozenset[str]) -> list[str]:
    """Packages of the programs that are not ``present``."""
    return sorted({package for program, package in PROGRAMS.items() if program not in present})


def present_programs() -> frozenset[str]:
    """Which of the programs this machine has."""
    return frozenset(
        program for program in PROGRAMS if Path(program).exists() or shutil.which(program, path=SYSTEM_PATH)
    )


def install(settings: Settings) -> str:
    """Install what is missing, remove nothing, and leave no container service running that was not there."""
    missing = missing_packages(present_programs())
    if not missing:
        return "present"
    if not shutil.which("apt-get"):
        names = ", ".join(missing)
        raise ClusterError(f"missing programs of the packages {names}", "install them by your package manager")
    options = ["-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3"]
    run(["dpkg", "--configure", "--pending"], check=False)
    _apt(settings, [*options, "update"])
    _apt(settings, [*options, "install", "--yes", "--no-install-recommends", "--no-remove", *missing])
    for service in SERVICES & set(missing) if Path("/run/systemd/system").exists() else ():
        run(["systemctl", "disable", "--now", service], check=False)
    still = missing_packages(present_programs())
    if still:
        raise ClusterError(f"programs of {', '.join(still)} are still missing", f"see {log_path(settings, 'packages')}")
    return "installed " + " ".join(missing)


def _apt(settings: Settings, arguments: list[str]) -> None:
    """Not marked as ours: an apt-get that outlives a crash must finish, the next one waits for its lock."""
    log = log_path(settings, "packages")
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with log.open("ab") as output:
        done = subprocess.run(
            ["apt-get", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode != 0:
        raise ClusterError(f"apt-get failed with status {done.returncode}", f"its log: {log}\n{tail(log)}")
