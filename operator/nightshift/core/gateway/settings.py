"""How a gateway is set up: where its files lie, what it listens on, its limits."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Settings of one gateway pod. A change of any of them takes effect by a reload of HAProxy."""

    run: str = "/run/nightshift"
    """Directory shared by HAProxy, agent and activator."""
    binds: tuple[str, ...] = (":8000",)
    """Addresses that clients reach, as HAProxy writes them."""
    metrics_bind: str = ":9101"
    """Where HAProxy's own metrics are read."""
    max_connections: int = 4000
    """Of clients, per gateway pod; further ones wait to be accepted. HAProxy refuses to start unless about three times
    as many files may be open."""
    most_queued: float = 0.25
    """Of the clients' connections, that the waiting requests of one route may take."""
    threads: int = 2
    connect_seconds: float = 2.0
    request_seconds: float = 5.0
    """Within it a request's headers, and its body or as much of it as fits the buffer, must arrive."""
    client_seconds: float = 60.0
    """A client that takes or sends nothing for so long, while it is its turn, is cut off."""
    server_seconds: float = 3600.0
    """An engine that says nothing for so long has failed the request."""
    hard_stop_seconds: int = 1800
    """A process that was replaced by a reload is ended after this time, whatever it still carries."""
    check_milliseconds: int = 2000
    """Between two health checks of an engine."""
    slow_start_milliseconds: int = 3000
    """In which a new engine comes to take its full share."""
    purge_milliseconds: int = 2000
    """After it unused connections to engines are closed: vLLM closes its own after 5 s, just when one may be used."""
    cluster_domain: str = "cluster.local"
    """The cluster's DNS domain: deployments' aliases are reached by names that end in it."""
    first_pool: int = 64
    """Slots of the most common kind to begin with."""
    other_pool: int = 8
    """Slots of any other kind to begin with."""

    def path(self, name: str) -> str:
        """A file in the shared directory."""
        return f"{self.run}/{name}"


BUFFER_BYTES = 65536
REWRITE_BYTES = 2048
"""Of the buffer, kept free for headers that HAProxy adds."""

ROUTES_MAP, HOSTS_MAP, BARE_MAP = "maps/routes.map", "maps/hosts.map", "maps/bare.map"
MODELS_MAP, ADAPTERS_MAP, PATHS_MAP = "maps/models.map", "maps/adapters.map", "maps/paths.map"
REVISIONS_MAP = "maps/revisions.map"
MAPS = (ROUTES_MAP, HOSTS_MAP, BARE_MAP, MODELS_MAP, ADAPTERS_MAP, PATHS_MAP, REVISIONS_MAP)
CONFIG = "haproxy.cfg"
RUNTIME_SOCKET, MASTER_SOCKET = "haproxy.sock", "master.sock"
ACTIVATOR_SOCKET, AGENT_SOCKET, RELEASED_SOCKET = "activator.sock", "agent.sock", "released.sock"
LOG_SOCKET = "log.sock"
MEMORY, STATE = "plan.json", "state.json"
