"""LoRA adapters as they are stored and spoken of between the operator and the container that fetches them."""

from typing import Annotated, Literal

from pydantic import Field

from nightshift.api.base import Model, StoredModel
from nightshift.api.fetch import FetchReason, Sha

MAX_IN_POD = 64
"""Adapters of one pod at the same time: those wanted, and older versions until they are unloaded."""

MAX_ADAPTERS = 16
"""Adapters of one deployment."""

DEFAULT_REVISION = "main"


class AdapterSpec(Model):
    """A LoRA adapter, which clients name in `model` as if it were a model of its own."""

    name: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name that clients use in `model`.",
    )
    uri: str = Field(
        min_length=8,
        max_length=205,
        pattern=r"^hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="hf://ORGANISATION/ADAPTER: a repository with adapter_config.json and adapter_model.safetensors. "
        "It is read with the token of model.tokenSecretRef. A change loads the new adapter without a restart.",
    )
    revision: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        description="Branch, tag or commit; default: main. It is resolved to a commit when the entry is added or its "
        "uri or revision changes, and stays pinned there. A change loads the new commit without a restart.",
    )

    @property
    def request(self) -> tuple[str, str, str]:
        """What is asked for: name, address, and branch, tag or commit."""
        return self.name, self.uri, self.revision or DEFAULT_REVISION


Repository = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")]


class AdapterPin(StoredModel):
    """What a name, address and revision of an adapter were resolved to; the data of a ControllerRevision.

    It is written once and stays as it is, so that a moving branch moves nothing that serves.
    """

    name: str
    uri: str
    revision: str = Field(description="As it was asked for.")
    sha: Sha
    rank: int = Field(ge=1)
    base: str | None = Field(default=None, description="What the adapter says that it was trained on.")


class WantedAdapter(StoredModel):
    """A commit of an adapter's repository."""

    repository: Repository
    sha: Sha


class WantedAdapters(StoredModel):
    """Everything that the container beside an engine should hold."""

    adapters: tuple[WantedAdapter, ...] = Field(max_length=MAX_IN_POD)
    keep: tuple[Sha, ...] | None = Field(
        default=None,
        max_length=MAX_IN_POD,
        description="Further commits that the engine may still read; without this list nothing is deleted.",
    )


class AdapterState(StoredModel):
    """How far one commit is."""

    sha: Sha
    phase: Literal["Fetching", "Ready", "Failed"]
    reason: FetchReason | None = None
    message: str = Field(default="", max_length=1024)


class AdapterStates(StoredModel):
    """How far everything is that was wanted."""

    adapters: tuple[AdapterState, ...] = Field(max_length=MAX_IN_POD)
