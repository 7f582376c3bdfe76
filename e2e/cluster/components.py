"""The processes of the cluster: command lines, and how each shows that it is ready."""

import hashlib
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from .builds import file_hash, recorded_hash
from .processes import run
from .settings import (
    API_PORT,
    API_SERVER,
    CONTROLLER_PORT,
    DNS_READY_PORT,
    ETCD_PEER_PORT,
    ETCD_PORT,
    KUBELET_HEALTH_PORT,
    LOOPBACK,
    NODE_ADDRESS,
    NODE_NAME,
    PROXY_HEALTH_PORT,
    REGISTRY,
    SCHEDULER_PORT,
    SERVICE_SUBNET,
    Settings,
)


@dataclass(frozen=True)
class Component:
    """One long-running process.

    Attributes:
        inputs: files whose change means a restart.
        ready_url: answers 200 once the process is ready; empty where ``ready_command`` tells.
        grace_seconds: how long it may take to end on SIGTERM.
    """

    name: str
    argv: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    ready_url: str = ""
    ready_command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    grace_seconds: float = 10.0

    def fingerprint(self) -> str:
        """Hash of the command line, the binary and the inputs."""
        binary = Path(self.argv[0])
        built = binary.with_name(f"{binary.name}.json").exists()
        digest = hashlib.sha256("\0".join(self.argv).encode())
        digest.update((recorded_hash(binary) if built else file_hash(binary)).encode())
        for path in self.inputs:
            digest.update(file_hash(path).encode())
        return digest.hexdigest()

    def is_ready(self, pki: Path) -> bool:
        """Ask once."""
        if self.ready_command:
            return run(self.ready_command, check=False).returncode == 0
        return answers(self.ready_url, pki)


def answers(url: str, pki: Path) -> bool:
    """Whether a URL answers 200 to the administrator within two seconds."""
    context = None
    if url.startswith("https"):
        context = ssl.create_default_context(cafile=pki / "ca.crt")
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        # The controller manager and the scheduler serve their health under certificates of their own making.
        if not url.startswith((API_SERVER, f"https://{LOOPBACK}:{ETCD_PORT}")):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError, ssl.SSLError):
        return False


def components(settings: Settings) -> dict[str, Component]:
    """Every process, in the order of starting; each may count on those before it."""
    ordered = (
        _registry(settings),
        _etcd(settings),
        _containerd(settings),
        _api_server(settings),
        _controller_manager(settings),
        _scheduler(settings),
        _proxy(settings),
        _dns(settings),
        _kubelet(settings),
    )
    return {component.name: component for component in ordered}


def _registry(settings: Settings) -> Component:
    config = settings.config / "registry.yaml"
    return Component(
        "registry",
        (str(settings.bin / "registry"), "serve", str(config)),
        (config,),
        ready_url=f"http://{REGISTRY}/v2/",
        environment=(("OTEL_TRACES_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "true")),
    )


def _etcd(settings: Settings) -> Component:
    client, peer = f"https://{LOOPBACK}:{ETCD_PORT}", f"https://{LOOPBACK}:{ETCD_PEER_PORT}"
    certificate, key, authority = (settings.pki / name for name in ("etcd.crt", "etcd.key", "ca.crt"))
    return Component(
        "etcd",
        (
            str(settings.bin / "etcd"),
            f"--name={NODE_NAME}",
            f"--data-dir={settings.run / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={NODE_NAME}={peer}",
            f"--cert-file={certificate}",
            f"--key-file={key}",
            f"--trusted-ca-file={authority}",
            "--client-cert-auth",
            f"--peer-cert-file={certificate}",
            f"--peer-key-file={key}",
            f"--peer-trusted-ca-file={authority}",
            "--peer-client-cert-auth",
            "--log-level=warn",
        ),
        (certificate,),
        ready_url=f"{client}/readyz",
    )


def _containerd(settings: Settings) -> Component:
    config = settings.config / "containerd.toml"
    return Component(
        "containerd",
        ("/usr/bin/containerd", "--config", str(config)),
        (config, settings.config / "cni" / "10-nightshift.conflist"),
        ready_command=(*ctr(settings), "version"),
    )


def ctr(settings: Settings) -> tuple[str, ...]:
    """The start of a ``ctr`` command line for the kubelet's containers."""
    return ("ctr", "--address", str(settings.containerd_socket), "--namespace", "k8s.io")


def _api_server(settings: Settings) -> Component:
    pki, policy = settings.pki, settings.config / "audit-policy.yaml"
    return Component(
        "kube-apiserver",
        (
            str(settings.bin / "kube-apiserver"),
            f"--bind-address={NODE_ADDRESS}",
            f"--advertise-address={NODE_ADDRESS}",
            f"--secure-port={API_PORT}",
            f"--service-cluster-ip-range={SERVICE_SUBNET}",
            f"--etcd-servers=https://{LOOPBACK}:{ETCD_PORT}",
            f"--etcd-cafile={pki / 'ca.crt'}",
            f"--etcd-certfile={pki / 'apiserver-client.crt'}",
            f"--etcd-keyfile={pki / 'apiserver-client.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            f"--kubelet-client-certificate={pki / 'apiserver-client.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction,PodSecurity",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={settings.run / 'audit.log'}",
            "--audit-log-maxsize=500",
            "--audit-log-maxbackup=1",
            "--profiling=false",
        ),
        (pki / "apiserver.crt", policy),
        ready_url=f"{API_SERVER}/readyz",
        grace_seconds=15.0,
    )


def _controller_manager(settings: Settings) -> Component:
    pki, kubeconfig = settings.pki, settings.config / "kube-controller-manager.kubeconfig"
    return Component(
        "kube-controller-manager",
        (
            str(settings.bin / "kube-controller-manager"),
            f"--kubeconfig={kubeconfig}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={CONTROLLER_PORT}",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--service-account-private-key-file={pki / 'service-accounts.key'}",
            f"--cluster-signing-cert-file={pki / 'ca.crt'}",
            f"--cluster-signing-key-file={pki / 'ca.key'}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--profiling=false",
        ),
        (kubeconfig,),
        ready_url=f"https://{LOOPBACK}:{CONTROLLER_PORT}/healthz",
    )


def _scheduler(settings: Settings) -> Component:
    kubeconfig = settings.config / "kube-scheduler.kubeconfig"
    return Component(
        "kube-scheduler",
        (
            str(settings.bin / "kube-scheduler"),
            f"--kubeconfig={kubeconfig}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={SCHEDULER_PORT}",
            "--leader-elect=false",
            "--profiling=false",
        ),
        (kubeconfig,),
        ready_url=f"https://{LOOPBACK}:{SCHEDULER_PORT}/healthz",
    )


def _proxy(settings: Settings) -> Component:
    config = settings.config / "kube-proxy.yaml"
    return Component(
        "kube-proxy",
        (str(settings.bin / "kube-proxy"), f"--config={config}"),
        (config, settings.config / "kube-proxy.kubeconfig"),
        ready_url=f"http://{LOOPBACK}:{PROXY_HEALTH_PORT}/livez",
    )


def _dns(settings: Settings) -> Component:
    corefile = settings.config / "Corefile"
    return Component(
        "coredns",
        (str(settings.bin / "coredns"), "-conf", str(corefile)),
        (corefile, settings.config / "coredns.kubeconfig"),
        ready_url=f"http://{NODE_ADDRESS}:{DNS_READY_PORT}/ready",
    )


def _kubelet(settings: Settings) -> Component:
    config, kubeconfig = settings.config / "kubelet.yaml", settings.config / "kubelet.kubeconfig"
    return Component(
        "kubelet",
        (
            str(settings.bin / "kubelet"),
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={settings.run / 'kubelet'}",
            f"--cert-dir={settings.run / 'kubelet' / 'pki'}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_ADDRESS}",
            "--node-labels=nightshift.dev/local-cluster=true",
        ),
        (config, kubeconfig, settings.pki / "kubelet-server.crt"),
        ready_url=f"http://{LOOPBACK}:{KUBELET_HEALTH_PORT}/healthz",
    )
