"""Where a model comes from, parsed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HubModel:
    """A model on the Hugging Face Hub or a server that speaks its protocol."""

    repository: str


@dataclass(frozen=True)
class ClaimModel:
    """A directory on a claim in the deployment's namespace."""

    claim: str
    path: str


def parse_model_uri(uri: str) -> HubModel | ClaimModel:
    """Parse `hf://ORGANISATION/MODEL` or `pvc://CLAIM/PATH`.

    Raises:
        ValueError: Neither of the two; the contract's pattern refuses such a uri before.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "hf" and rest.count("/") == 1:
        return HubModel(repository=rest)
    if scheme == "pvc" and rest:
        claim, _, path = rest.partition("/")
        return ClaimModel(claim=claim, path=path)
    raise ValueError(f"model.uri {uri!r} is neither hf://ORGANISATION/MODEL nor pvc://CLAIM/PATH")
