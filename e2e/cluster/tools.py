"""The table of binaries: which Go module builds each of them, at which version."""

from dataclasses import dataclass
from pathlib import Path

from .settings import KUBERNETES_VERSION

MODULES = Path(__file__).parent / "modules"

KUBERNETES_STAGING = (
    "api",
    "apiextensions-apiserver",
    "apimachinery",
    "apiserver",
    "cli-runtime",
    "client-go",
    "cloud-provider",
    "cluster-bootstrap",
    "code-generator",
    "component-base",
    "component-helpers",
    "controller-manager",
    "cri-api",
    "cri-client",
    "csi-translation-lib",
    "dynamic-resource-allocation",
    "endpointslice",
    "externaljwt",
    "kms",
    "kube-aggregator",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "metrics",
    "mount-utils",
    "pod-security-admission",
    "sample-apiserver",
    "sample-cli-plugin",
    "sample-controller",
)
"""Modules that Kubernetes' own go.mod replaces by paths, which a build from outside must replace by versions."""


@dataclass(frozen=True)
class Module:
    """One directory below ``modules``: go.mod and go.sum pin everything that is compiled.

    Attributes:
        requires: the module path and version the binaries come from; empty for our own sources.
        packages: main packages named in tools.go; empty where main.go is ours.
        replaces: module path -> version.
    """

    name: str
    requires: tuple[str, str] | None
    packages: tuple[str, ...] = ()
    replaces: tuple[tuple[str, str], ...] = ()

    @property
    def directory(self) -> Path:
        """Where go.mod and go.sum lie."""
        return MODULES / self.name


@dataclass(frozen=True)
class Tool:
    """One binary."""

    name: str
    module: Module
    package: str = "."
    linker_variables: tuple[tuple[str, str], ...] = ()

    @property
    def version(self) -> str:
        """The released version, or ``own`` for our own source."""
        return self.module.requires[1] if self.module.requires else "own"


_KUBERNETES_COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet")

KUBERNETES = Module(
    "kubernetes",
    ("k8s.io/kubernetes", f"v{KUBERNETES_VERSION}"),
    tuple(f"k8s.io/kubernetes/cmd/{command}" for command in _KUBERNETES_COMMANDS),
    tuple((f"k8s.io/{name}", f"v0.{KUBERNETES_VERSION.split('.', 1)[1]}") for name in KUBERNETES_STAGING),
)
ETCD = Module("etcd", ("go.etcd.io/etcd/server/v3", "v3.7.3"), ("go.etcd.io/etcd/server/v3",))
COREDNS = Module("coredns", ("github.com/coredns/coredns", "v1.14.7"))
REGISTRY = Module("registry", ("github.com/distribution/distribution/v3", "v3.1.2"))
POD = Module("pod", None)
KWOK = Module("kwok", ("sigs.k8s.io/kwok", "v0.8.0"), ("sigs.k8s.io/kwok/cmd/kwok",))
INFERENCE_SIM = Module(
    "llm-d-inference-sim",
    ("github.com/llm-d/llm-d-inference-sim", "v0.10.2"),
    ("github.com/llm-d/llm-d-inference-sim/cmd/llm-d-inference-sim",),
)
ALL_MODULES = (KUBERNETES, ETCD, COREDNS, REGISTRY, POD, KWOK, INFERENCE_SIM)


def _kubernetes_version_variables() -> tuple[tuple[str, str], ...]:
    """Without these the API server calls itself v0.0.0 and a chart's ``kubeVersion`` cannot compare."""
    major, minor, _ = KUBERNETES_VERSION.split(".")
    values = {
        "gitVersion": f"v{KUBERNETES_VERSION}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple((f"{package}.{name}", value) for package in packages for name, value in values.items())


CLUSTER_TOOLS = (
    Tool("registry", REGISTRY),
    Tool("etcd", ETCD, ETCD.packages[0]),
    Tool("pod", POD),
    Tool("coredns", COREDNS),
    *(
        Tool(command, KUBERNETES, f"k8s.io/kubernetes/cmd/{command}", _kubernetes_version_variables())
        for command in _KUBERNETES_COMMANDS
    ),
)
"""What ``up`` builds."""

EXTRA_TOOLS = (
    Tool("kwok", KWOK, KWOK.packages[0]),
    Tool("llm-d-inference-sim", INFERENCE_SIM, INFERENCE_SIM.packages[0]),
)
"""What is built only when asked for by name."""

TOOLS = {tool.name: tool for tool in CLUSTER_TOOLS + EXTRA_TOOLS}


def tools_go(module: Module) -> str:
    """The Go file that makes ``go mod tidy`` keep the commands; never compiled."""
    imports = "".join(f'\t_ "{package}"\n' for package in sorted(module.packages))
    head = "//go:build tools\n\n// Package tools names the commands that are built from this module.\npackage tools\n"
    return f"{head}\nimport (\n{imports})\n"


def go_mod_seed(module: Module, go_version: str = "1.24.0") -> str:
    """The go.mod that ``go mod tidy`` completes to the committed one."""
    lines = [f"module nightshift.dev/e2e/{module.name}", "", f"go {go_version}", ""]
    if module.requires:
        lines += [f"require {module.requires[0]} {module.requires[1]}", ""]
    if module.replaces:
        replaces = [f"\t{path} => {path} {version}" for path, version in module.replaces]
        lines += ["replace (", *replaces, ")", ""]
    return "\n".join(lines)


def go_directive(go_mod: str) -> tuple[int, int]:
    """The Go version (major, minor) that a go.mod asks for."""
    for line in go_mod.splitlines():
        if line.startswith("go "):
            major, minor = line.split()[1].split(".")[:2]
            return int(major), int(minor)
    raise ValueError("go.mod has no go directive")


def go_needed(tools: tuple[Tool, ...] = CLUSTER_TOOLS) -> tuple[int, int]:
    """The oldest Go version (major, minor) that builds ``tools``."""
    return max(go_directive((tool.module.directory / "go.mod").read_text()) for tool in tools)
