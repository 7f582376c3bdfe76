"""The documentation is true as far as a program can see: links, names of files, dependencies."""

import re
from pathlib import Path

import pytest
import yaml

from nightshift.api.evaluation import EvaluationSpec
from nightshift.api.rollout import RolloutOrder
from nightshift.api.rollout_spec import RolloutSpec
from nightshift.core.golden.parse import GoldenSet, parse_set
from nightshift.core.judged.orders import read_order
from tools.repository import ROOT, tracked

PAGES = sorted(path for path in tracked() if path.suffix == ".md")
LINK = re.compile(r"\]\(([^)\s]+)\)")
SOURCE_FILE = re.compile(r"(?<![\w/])((?:api|core|adapters|runtime|fetch|gateway)/(?:\w+/)?\w+\.py)")
CODE = re.compile(r"`[^`\n]*`")
PACKAGE = re.compile(r"^([A-Za-z][A-Za-z0-9._-]*)", re.MULTILINE)


def broken_links(text: str, directory: Path) -> list[str]:
    """Relative links of a page that lead to no file; code is passed over."""
    targets = (target.partition("#")[0] for target in LINK.findall(CODE.sub("", text)) if "://" not in target)
    return [target for target in targets if target and not (directory / target).exists()]


def unnamed_packages(requirements: str, page: str) -> list[str]:
    """Packages of a requirements file that a page does not name."""
    return [name for name in PACKAGE.findall(requirements) if f"`{name}`" not in page]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    path = ROOT / page
    assert broken_links(path.read_text(), path.parent) == []


def test_a_broken_link_is_found() -> None:
    assert broken_links("[a](no-such-page.md#part) `[x](code)` [b](docs) [c](https://example.com/x)", ROOT) == [
        "no-such-page.md"
    ]


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [page.relative_to("docs") for page in PAGES if page.is_relative_to("docs") and page.name != "README.md"]
    assert [str(page) for page in pages if f"({page})" not in index] == []


def test_the_architecture_names_files_that_exist() -> None:
    named = set(SOURCE_FILE.findall((ROOT / "docs" / "architecture.md").read_text()))
    assert len(named) > 20
    assert sorted(name for name in named if not (ROOT / "operator" / "nightshift" / name).is_file()) == []


@pytest.mark.parametrize("name", ["runtime.in", "dev.in", "uv.in", "bench.in"])
def test_every_dependency_has_its_reason(name: str) -> None:
    page = (ROOT / "docs" / "design" / "0001-dependencies.md").read_text()
    assert unnamed_packages((ROOT / "requirements" / name).read_text(), page) == []


def test_a_dependency_without_a_reason_is_found() -> None:
    assert unnamed_packages("# comment\nkopf>=1\nleft-pad==1.0\ncoverage[toml]\n", "`kopf` `coverage`") == ["left-pad"]


ROLLOUTS = (ROOT / "docs" / "rollouts.md").read_text()


def blocks(language: str) -> list[str]:
    """Code of a language on the page of rollouts."""
    return re.findall(rf"^```{language}\n(.*?)^```", ROLLOUTS, re.MULTILINE | re.DOTALL)


def test_the_rollouts_on_their_page_are_what_a_spec_may_hold() -> None:
    specs = [item["spec"] for text in blocks("yaml") for item in yaml.safe_load_all(text) if "spec" in item]
    rollouts = [RolloutSpec.model_validate(spec["rollout"]) for spec in specs if "rollout" in spec]
    assert RolloutSpec().model_copy(update={"strategy": "Readiness"}) in rollouts
    assert RolloutSpec() in rollouts, "the page shows the defaults"


def test_the_golden_set_on_the_page_of_rollouts_can_be_read() -> None:
    objects = [item for text in blocks("yaml") for item in yaml.safe_load_all(text)]
    (golden,) = [item for item in objects if item.get("kind") == "ConfigMap"]
    (asked,) = [item["spec"]["evaluation"] for item in objects if "evaluation" in item.get("spec", {})]
    reference = EvaluationSpec.model_validate(asked).golden_set_ref
    assert reference.name == golden["metadata"]["name"]
    found = parse_set(golden["data"][reference.key].encode())
    assert isinstance(found, GoldenSet), found
    assert len(found.questions) == 5


def test_the_orders_on_the_page_of_rollouts_are_all_that_there_are() -> None:
    written = re.findall(r'nightshift\.dev/order="([^"]+)"', ROLLOUTS)
    orders = [read_order(text, None) for text in written]
    assert [order.order for order in orders if order is not None] == list(RolloutOrder)
