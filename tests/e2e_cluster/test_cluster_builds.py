import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.cluster import builds, tools
from e2e.cluster.packages import PROGRAMS, missing_packages
from e2e.cluster.settings import ClusterError, Settings


def put(directory: Path, name: str, content: bytes, key: str) -> Path:
    partial, binary = directory / f".{name}.partial", directory / name
    partial.write_bytes(content)
    builds.put_in_place(partial, binary, key, "v1")
    return binary


def test_a_binary_is_cached_under_its_key_only(tmp_path: Path) -> None:
    binary = put(tmp_path, "x", b"program", "key")
    assert builds.is_cached(binary, "key")
    assert not builds.is_cached(binary, "another")
    assert binary.stat().st_mode & 0o777 == 0o755


def test_a_damaged_binary_is_not_cached_even_when_its_size_and_time_are_kept(tmp_path: Path) -> None:
    binary = put(tmp_path, "x", b"program", "key")
    times = binary.stat()
    binary.write_bytes(b"progrbm")
    shutil.os.utime(binary, ns=(times.st_atime_ns, times.st_mtime_ns))  # type: ignore[attr-defined]
    assert not builds.is_cached(binary, "key")


@pytest.mark.parametrize("record", ["", "{}", "[]", '{"key": "key"}'])
def test_a_damaged_record_means_a_rebuild(tmp_path: Path, record: str) -> None:
    binary = put(tmp_path, "x", b"program", "key")
    (tmp_path / "x.json").write_text(record)
    assert not builds.is_cached(binary, "key")


def test_a_crash_between_record_and_binary_means_a_rebuild(tmp_path: Path) -> None:
    binary = put(tmp_path, "x", b"old", "old key")
    put(tmp_path, "y", b"new", "new key")
    (tmp_path / "y.json").rename(tmp_path / "x.json")
    assert not builds.is_cached(binary, "new key")


def test_what_is_compiled_decides_the_key(tmp_path: Path) -> None:
    tool = tools.TOOLS["pod"]
    copy = tmp_path / "pod"
    shutil.copytree(tool.module.directory, copy)

    class Copied(tools.Module):
        @property
        def directory(self) -> Path:
            return copy

    copied = replace(tool, module=Copied("pod", None))
    before = builds.input_key(copied)
    assert before == builds.input_key(tool)
    (copy / "main.go").write_text((copy / "main.go").read_text() + "// changed\n")
    assert builds.input_key(copied) != before
    assert builds.input_key(replace(tool, linker_variables=(("a", "b"),))) != before


def test_only_missing_tools_are_to_build(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    settings.bin.mkdir()
    first, *others = tools.CLUSTER_TOOLS
    put(settings.bin, first.name, b"program", builds.input_key(first))
    assert builds.to_build(settings, tools.CLUSTER_TOOLS) == tuple(tool.name for tool in others)


def test_a_failed_build_names_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "path" / "go"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho the compiler says no\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=":")
    settings = Settings(tmp_path / "home")
    with pytest.raises(ClusterError, match=r"build-pod failed with status 3[\s\S]*the compiler says no"):
        builds.build(settings, tools.TOOLS["pod"])
    assert not (settings.bin / "pod").exists()


def test_no_go_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="`go` is not on PATH"):
        builds.build(Settings(tmp_path), tools.TOOLS["pod"])


@pytest.mark.parametrize("module", tools.ALL_MODULES, ids=lambda module: module.name)
def test_the_pinned_modules_are_those_of_the_table(module: tools.Module) -> None:
    go_mod = (module.directory / "go.mod").read_text().splitlines()
    words = [line.split() for line in go_mod]
    if module.requires:
        path, version = module.requires
        assert [path, version] in [[word for word in line if word != "require"][:2] for line in words if line]
        assert (module.directory / "go.sum").stat().st_size > 0
    assert {(line[0], line[3]) for line in words if len(line) == 4 and line[1] == "=>"} == set(module.replaces)
    if module.packages:
        assert (module.directory / "tools.go").read_text() == tools.tools_go(module)


def test_a_chart_can_compare_the_version_of_the_cluster() -> None:
    command = builds.build_command(tools.TOOLS["kube-apiserver"], Path("out"))
    flags = command[command.index("-ldflags") + 1]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        assert f"-X {package}.gitVersion=v1.34.4 " in flags + " "
        assert f"-X {package}.gitMinor=34 " in flags + " "


def test_the_newest_go_directive_counts() -> None:
    directives = [tools.go_directive((tool.module.directory / "go.mod").read_text()) for tool in tools.CLUSTER_TOOLS]
    assert tools.go_needed() == max(directives)
    assert tools.go_directive("module x\n\ngo 1.100\n") > (1, 26)


def test_only_packages_of_missing_programs_are_installed() -> None:
    present = frozenset(PROGRAMS)
    assert missing_packages(present) == []
    assert missing_packages(present - {"ctr", "runc"}) == ["containerd", "runc"]
