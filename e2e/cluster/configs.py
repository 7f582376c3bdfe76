"""The configuration files of the processes, as text; nothing here touches the machine."""

import base64
import json
from pathlib import Path
from typing import Any

import yaml

from .settings import (
    API_SERVER,
    BRIDGE,
    CNI_NETWORK,
    DNS_PORT,
    DNS_READY_PORT,
    DNS_SERVICE_ADDRESS,
    KUBELET_HEALTH_PORT,
    KUBELET_PORT,
    LOOPBACK,
    NODE_ADDRESS,
    NODE_NAME,
    POD_RANGE,
    POD_SUBNET,
    PROXY_HEALTH_PORT,
    PROXY_METRICS_PORT,
    REGISTRY,
    Settings,
)

KUBECONFIG_USERS = ("kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "coredns", "kwok")


def kubeconfig(pki: Path, user: str) -> str:
    """A kubeconfig for one identity, with everything inside, so that it may be copied."""

    def embedded(file: str) -> str:
        return base64.b64encode((pki / file).read_bytes()).decode()

    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "nightshift",
                    "cluster": {"server": API_SERVER, "certificate-authority-data": embedded("ca.crt")},
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": embedded(f"{user}.crt"),
                        "client-key-data": embedded(f"{user}.key"),
                    },
                }
            ],
            "contexts": [{"name": "nightshift", "context": {"cluster": "nightshift", "user": user}}],
            "current-context": "nightshift",
        },
        sort_keys=False,
    )


def audit_policy() -> str:
    """Every request at Metadata level; the control plane's own reads would be nine tenths of the log."""
    control_plane = [
        "system:apiserver",
        "system:kube-controller-manager",
        "system:kube-scheduler",
        "system:kube-proxy",
        "system:coredns",
        f"system:node:{NODE_NAME}",
    ]
    return _yaml(
        apiVersion="audit.k8s.io/v1",
        kind="Policy",
        omitStages=["RequestReceived"],
        rules=[
            {"level": "None", "users": control_plane, "verbs": ["get", "list", "watch"]},
            {
                "level": "None",
                "users": control_plane,
                "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}],
            },
            {"level": "Metadata"},
        ],
    )


def kubelet(settings: Settings) -> str:
    """KubeletConfiguration for one small node: nothing reserved, images kept until the disk is full."""
    return _yaml(
        apiVersion="kubelet.config.k8s.io/v1beta1",
        kind="KubeletConfiguration",
        address=NODE_ADDRESS,
        port=KUBELET_PORT,
        healthzBindAddress=LOOPBACK,
        healthzPort=KUBELET_HEALTH_PORT,
        authentication={
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(settings.pki / "ca.crt")},
        },
        authorization={"mode": "Webhook"},
        tlsCertFile=str(settings.pki / "kubelet-server.crt"),
        tlsPrivateKeyFile=str(settings.pki / "kubelet-server.key"),
        containerRuntimeEndpoint=f"unix://{settings.containerd_socket}",
        cgroupDriver="cgroupfs",
        cgroupRoot=f"/{settings.cgroup}",
        failCgroupV1=False,
        failSwapOn=False,
        enforceNodeAllocatable=[],
        localStorageCapacityIsolation=False,
        clusterDNS=[DNS_SERVICE_ADDRESS],
        clusterDomain="cluster.local",
        podLogsDir=str(settings.run / "pod-logs"),
        imageGCHighThresholdPercent=100,
        imageGCLowThresholdPercent=99,
        evictionHard={"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        serializeImagePulls=False,
        registryPullQPS=0,
        eventRecordQPS=0,
    )


def kube_proxy(settings: Settings) -> str:
    """KubeProxyConfiguration that leaves the host's connection tracking limits alone."""
    return _yaml(
        apiVersion="kubeproxy.config.k8s.io/v1alpha1",
        kind="KubeProxyConfiguration",
        bindAddress=NODE_ADDRESS,
        healthzBindAddress=f"{LOOPBACK}:{PROXY_HEALTH_PORT}",
        metricsBindAddress=f"{LOOPBACK}:{PROXY_METRICS_PORT}",
        clientConnection={"kubeconfig": str(settings.config / "kube-proxy.kubeconfig")},
        clusterCIDR=POD_SUBNET,
        hostnameOverride=NODE_NAME,
        mode="iptables",
        iptables={"localhostNodePorts": False, "minSyncPeriod": "0s"},
        conntrack={"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    )


def containerd(settings: Settings, sandbox_image: str) -> str:
    """containerd's config.toml, version 2 (1.6 and later read it)."""
    run = settings.run / "containerd"
    return f"""version = 2
root = {_toml(settings.containerd)}
state = {_toml(run)}
oom_score = 0

[grpc]
  address = {_toml(settings.containerd_socket)}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {_toml(sandbox_image)}
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_apparmor = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = {_toml(settings.config / "cni")}

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "runc"
        SystemdCgroup = false
        Root = {_toml(run / "runc")}

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {_toml(settings.config / "registries")}
"""


def registry_hosts() -> str:
    """containerd's hosts.toml for the local registry: plain HTTP."""
    return f"""server = "http://{REGISTRY}"

[host."http://{REGISTRY}"]
  capabilities = ["pull", "resolve", "push"]
"""


def cni(settings: Settings) -> str:
    """The pods' network: the bridge exists already and is the gateway, addresses come from one range."""
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": False,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(settings.run / "cni"),
            "ranges": [
                [
                    {
                        "subnet": POD_SUBNET,
                        "rangeStart": POD_RANGE[0],
                        "rangeEnd": POD_RANGE[1],
                        "gateway": NODE_ADDRESS,
                    }
                ]
            ],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return json.dumps({"cniVersion": "0.4.0", "name": CNI_NETWORK, "plugins": [bridge]}, indent=2) + "\n"


def registry(settings: Settings) -> str:
    """distribution's configuration."""
    return _yaml(
        version=0.1,
        log={"level": "warn", "accesslog": {"disabled": True}},
        storage={
            "filesystem": {"rootdirectory": str(settings.registry)},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "inmemory"},
        },
        http={"addr": REGISTRY},
    )


def corefile(settings: Settings, *, upstream: bool) -> str:
    """CoreDNS: the cluster's names, and everything else from the host's resolvers if it has any."""
    lines = [
        f".:{DNS_PORT} {{",
        f"    bind {NODE_ADDRESS}",
        "    errors",
        f"    ready {NODE_ADDRESS}:{DNS_READY_PORT}",
        "    kubernetes cluster.local in-addr.arpa {",
        f"        kubeconfig {settings.config / 'coredns.kubeconfig'}",
        "        fallthrough in-addr.arpa",
        "        ttl 5",
        "    }",
        *(["    forward . /etc/resolv.conf"] if upstream else []),
        "    cache 5",
        "    loadbalance",
        "}",
    ]
    return "\n".join(lines) + "\n"


def has_upstream(resolv_conf: str) -> bool:
    """Whether a resolv.conf names a server that is not CoreDNS itself."""
    servers = [line.split()[1] for line in resolv_conf.splitlines() if line.startswith("nameserver ")]
    return any(server not in {NODE_ADDRESS, DNS_SERVICE_ADDRESS} for server in servers)


def files(settings: Settings, sandbox_image: str, resolv_conf: str) -> dict[Path, str]:
    """Every configuration file with its content."""
    directory = settings.config
    return {
        **{directory / f"{user}.kubeconfig": kubeconfig(settings.pki, user) for user in KUBECONFIG_USERS},
        settings.kubeconfig: kubeconfig(settings.pki, "admin"),
        directory / "audit-policy.yaml": audit_policy(),
        directory / "kubelet.yaml": kubelet(settings),
        directory / "kube-proxy.yaml": kube_proxy(settings),
        directory / "containerd.toml": containerd(settings, sandbox_image),
        directory / "registries" / REGISTRY / "hosts.toml": registry_hosts(),
        directory / "cni" / "10-nightshift.conflist": cni(settings),
        directory / "registry.yaml": registry(settings),
        directory / "Corefile": corefile(settings, upstream=has_upstream(resolv_conf)),
    }


def _yaml(**fields: Any) -> str:
    return yaml.safe_dump(fields, sort_keys=False)


def _toml(value: object) -> str:
    return json.dumps(str(value))
