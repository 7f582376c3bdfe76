"""One telling of a story beside the cluster: a namespace, a release and an operator's process of its own."""

import base64
import os
import ssl
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import yaml

from e2e.process.beside import Place, install_beside
from e2e.process.operator import OperatorProcess, kubeconfig_of
from e2e.process.proxy import Proxy
from e2e.stories.world import World
from e2e.support.client import Object
from e2e.support.direct import DirectClient

LEASE = ("create Lease", "replace Lease")


class Telling(World):
    """A context in which an operator's process serves one namespace, to which only this one operator looks."""

    def __init__(
        self, client: DirectClient, name: str, directory: Path, *, kill: str = "", hurry: int = 1, **values: Any
    ) -> None:
        """Prepare one.

        Args:
            client: The cluster; no other operator may run in it.
            name: Part of the namespace's name, and of the lines that are told.
            directory: Of the process: its log and the list of its writes.
            kill: VERB KIND before|after of the write at which the process is killed, once; empty for never.
            hurry: How many times sooner engines are found that hang.
            values: Of the chart, other than the stories'.
        """
        super().__init__(client, f"story-{name}-{int(time.time()) % 100000}")
        self._name, self._directory, self._values = name, directory, values
        self._kill, self._hurry = kill, hurry
        self._stack = ExitStack()
        self.operator: OperatorProcess

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True)
        self.open()
        self._stack.callback(self.close)
        kubeconfig = self._directory / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        place = install_beside(self.client, self.namespace, **self._values)
        kubeconfig.write_text(yaml.safe_dump(self._way_in(place)))
        environment = {**self.client.access.environment(), "KUBECONFIG": str(kubeconfig), "PATH": os.environ["PATH"]}
        self.operator = self._stack.enter_context(
            OperatorProcess(self._directory, place.config, environment, kill=self._kill, hurry=self._hurry)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def tell(self, step: str, what: str) -> None:
        """One line of the story, with its name."""
        super().tell(step, f"[{self._name}] {what}")

    def writes(self) -> list[str]:
        """Verb and kind of the operator's writes so far, in order, those of the Lease left out."""
        return [write for write in self.operator.writes() if write not in LEASE]

    def _way_in(self, place: Place) -> Object:
        """The kubeconfig of the process."""
        return place.kubeconfig


class TellingBehindProxy(Telling):
    """The same with a proxy between the operator and the API server; everybody else goes past it."""

    proxy: Proxy

    def _way_in(self, place: Place) -> Object:
        cluster = place.kubeconfig["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        trusted = ssl.create_default_context(cadata=authority)
        self.proxy = self._stack.enter_context(Proxy(cluster["server"], trusted))
        return kubeconfig_of(self.proxy.url, place.token)
