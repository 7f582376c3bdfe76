"""The operator's process, kopf's watches and all, against an API server in memory behind a proxy that misbehaves.

The stories in `e2e/stories/test_faults.py` tell the same, and more, on a real cluster.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from e2e.process.faults import FAULTS
from e2e.process.operator import OperatorProcess, kubeconfig_of
from e2e.process.proxy import Faults, Proxy
from nightshift.api import names
from tests.support.api_server import deployment_reference
from tests.support.builders import config, model_spec
from tests.support.http_api import HttpApi

FAULT_SECONDS = 2.5
HEAL_SECONDS = 60.0
REQUESTS_PER_SECOND = 40.0
"""Ten watches that are begun anew each second, a list and a watch each, make half of it."""


ROWS = ["watches that are too old", "answers that are lost", "stale lists", "missing rights", "an expired token"]


class Rig:
    def __init__(self, api: HttpApi, proxy: Proxy, operator: OperatorProcess) -> None:
        self.api, self.proxy, self.operator = api, proxy, operator

    def make(self, name: str) -> None:
        metadata = {"name": name, "namespace": "ml"}
        raw = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": model_spec(**IMAGE)}
        self.api.call(lambda: self.api.server.create(raw))

    def change(self, name: str, **fields: Any) -> None:
        where = deployment_reference(name)
        self.api.call(lambda: self.api.server.change(where, lambda raw: raw["spec"].update(fields)))

    def serves(self, name: str, generation: int) -> bool:
        raw = self.api.call(lambda: self.api.server.get(deployment_reference(name)))
        status = raw.get("status", {})
        ready = [item["status"] for item in status.get("conditions", ()) if item["type"] == "Ready"]
        return status.get("observedGeneration") == generation and ready == ["True"]

    def pods(self, name: str) -> int:
        found = self.api.call(lambda: list(self.api.server.of_kind("Pod")))
        return sum(raw["metadata"]["labels"][names.LABEL_DEPLOYMENT] == name for raw in found)

    def eventually(self, look: Callable[[], bool]) -> None:
        deadline = time.monotonic() + HEAL_SECONDS
        while not look():
            assert time.monotonic() < deadline, "\n".join(self.operator.lines()[-30:])
            time.sleep(0.05)


IMAGE: dict[str, Any] = {"engine": {"image": "127.0.0.1:1/vllm", "version": "0.32.0"}}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    directory = tmp_path_factory.mktemp("operator")
    with HttpApi() as api, Proxy(api.url) as proxy:
        (directory / "kubeconfig").write_text(yaml.safe_dump(kubeconfig_of(proxy.url, "token")))
        settings = config(resync_seconds=10).model_dump(mode="json", by_alias=True)
        environment = {**os.environ, "KUBECONFIG": str(directory / "kubeconfig"), "no_proxy": "*"}
        with OperatorProcess(directory, settings, environment) as operator:
            yield Rig(api, proxy, operator)


@pytest.mark.parametrize("name", ROWS)
def test_what_is_wanted_comes_about_in_spite_of(rig: Rig, name: str) -> None:
    faults, _ = FAULTS[name]
    changed, made = (f"{what}-{list(FAULTS).index(name)}" for what in ("changed", "made"))
    rig.make(changed)
    rig.eventually(lambda: rig.serves(changed, 1))
    ended = len(rig.operator.ends)
    began = rig.proxy.begin(faults())
    rig.change(changed, replicas=2, engine={**IMAGE["engine"], "args": ["--seed=1"]})
    rig.make(made)
    time.sleep(FAULT_SECONDS)
    during = rig.proxy.since(began)
    over = rig.proxy.begin(Faults())
    rig.eventually(lambda: rig.serves(changed, 2) and rig.serves(made, 1))
    rig.eventually(lambda: (rig.pods(changed), rig.pods(made)) == (2, 1))
    assert rig.operator.ends[ended:] == []
    assert len(during) / (over - began) <= REQUESTS_PER_SECOND
    assert during
