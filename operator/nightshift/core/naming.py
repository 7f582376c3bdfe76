"""What clients may call a model and its adapters, by the gateway's shared address too."""

from nightshift.api.config import GatewayConfig
from nightshift.api.resource import LLMDeployment


def shared_name(deployment: LLMDeployment) -> str:
    """NAMESPACE/NAME, by which the shared address knows a deployment."""
    return f"{deployment.namespace}/{deployment.name}"


def served_name(deployment: LLMDeployment) -> str:
    """The name that the model is served by."""
    return deployment.spec.model.served_name or deployment.name


def short_names(deployment: LLMDeployment, gateway: GatewayConfig) -> tuple[str, ...]:
    """Names besides NAMESPACE/NAME that the shared address takes: the served name, where an administrator lists it."""
    return (served_name(deployment),) if shared_name(deployment) in gateway.short_names else ()


def adapter_names(deployment: LLMDeployment, adapter: str, gateway: GatewayConfig | None) -> tuple[str, ...]:
    """What an engine must know an adapter by: its own name, and with a gateway those that the shared address takes.

    Worked example: refunds of ml/bot is also ml/bot:refunds, and bot:refunds where ml/bot has a short name.

    Args:
        deployment: Whose adapter it is.
        adapter: Its name in the spec.
        gateway: That carries the requests; None: nobody asks by a shared address.
    """
    models = (shared_name(deployment), *short_names(deployment, gateway)) if gateway is not None else ()
    return (adapter, *(f"{model}:{adapter}" for model in models))
