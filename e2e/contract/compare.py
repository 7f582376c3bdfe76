"""Compares observations with the recorded behaviour of real vLLM, known differences apart. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from e2e.contract.observe import flatten

ABSENT = "(absent)"


@dataclass(frozen=True)
class Known:
    """A difference that is known and stays.

    Attributes:
        engine: the kind of engine it is about.
        case: pattern of case names.
        path: pattern of paths within the observation.
        reason: why it is so, for the reader of docs/simulator.md.
        versions: versions it is about; empty for all.
    """

    engine: str
    case: str
    path: str
    reason: str
    versions: tuple[str, ...] = ()

    def covers(self, kind: str, version: str, difference: Difference) -> bool:
        """Whether it explains a difference."""
        return (
            self.engine == kind
            and (not self.versions or version in self.versions)
            and fnmatchcase(difference.case, self.case)
            and fnmatchcase(difference.path, self.path)
        )


@dataclass(frozen=True)
class Difference:
    """One leaf of an observation that is not as in real vLLM."""

    case: str
    path: str
    expected: Any
    got: Any


def differences(expected: Mapping[str, Any], got: Mapping[str, Any]) -> list[Difference]:
    """Leaf by leaf, for the cases both have; a case that failed differs as a whole."""
    found: list[Difference] = []
    for case in sorted(set(expected) & set(got)):
        if "failed" in got[case] or "failed" in expected[case]:
            if got[case].get("failed") != expected[case].get("failed"):
                found.append(Difference(case, "", _brief(expected[case]), _brief(got[case])))
            continue
        left, right = flatten(expected[case]["observed"]), flatten(got[case]["observed"])
        pairs = {path: (left.get(path, ABSENT), right.get(path, ABSENT)) for path in [*left, *right]}
        found.extend(Difference(case, path, old, new) for path, (old, new) in pairs.items() if old != new)
    return found


def _brief(result: Mapping[str, Any]) -> str:
    return str(result.get("failed", "passes"))


def unexplained(
    found: Sequence[Difference], known: Sequence[Known], kind: str, version: str
) -> tuple[list[Difference], list[Known]]:
    """The differences nobody listed, and the listed ones that do not occur."""
    used: set[Known] = set()
    rest: list[Difference] = []
    for difference in found:
        match = next((one for one in known if one.covers(kind, version, difference)), None)
        if match is None:
            rest.append(difference)
        else:
            used.add(match)
    relevant = [one for one in known if one.engine == kind and (not one.versions or version in one.versions)]
    return rest, [one for one in relevant if one not in used]
