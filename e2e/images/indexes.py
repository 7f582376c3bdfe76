"""The host's package index settings for RUN steps: mounted for the time of a build, never part of an image."""

import configparser
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
PIP_FILES = (Path("/etc/pip.conf"), Path("~/.pip/pip.conf"), Path("~/.config/pip/pip.conf"))
PASSED_ON = ("index-url", "extra-index-url", "trusted-host", "timeout", "retries", "proxy")


def pip_options(files: list[str], environment: Mapping[str, str]) -> dict[str, str]:
    """What pip on this host is told about indexes: by its files' `[global]`, and over them by `PIP_*`."""
    options = {"cert": BUNDLE, "disable-pip-version-check": "true"}
    for text in files:
        parsed = configparser.RawConfigParser()
        parsed.read_string(text)
        if parsed.has_section("global"):
            options |= {name: value for name, value in parsed.items("global") if name in PASSED_ON}
    for name in PASSED_ON:
        value = environment.get(f"PIP_{name.upper().replace('-', '_')}")
        if value:
            options[name] = value
    return options


def uv_options(pip: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, object]:
    """The same for uv, which reads none of pip's settings."""
    options: dict[str, object] = {}
    default = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL") or pip.get("index-url")
    if default:
        options["index-url"] = default.split("=", 1)[-1] if default.partition("=")[0].isidentifier() else default
    extra = environment.get("UV_EXTRA_INDEX_URL") or pip.get("extra-index-url")
    if extra:
        options["extra-index-url"] = extra.split()
    return options


@contextmanager
def as_files(folder: Path) -> Iterator[list[str]]:
    """Volumes for `buildah build` that give pip and uv in RUN steps this host's index settings."""
    texts = [path.expanduser().read_text() for path in PIP_FILES if path.expanduser().is_file()]
    pip = pip_options(texts, os.environ)
    with tempfile.TemporaryDirectory(prefix="indexes-", dir=folder) as place:
        pip_conf = Path(place) / "pip.conf"
        pip_conf.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in pip.items()))
        volumes = [f"{pip_conf}:/etc/pip.conf:ro"]
        uv = uv_options(pip, os.environ)
        if uv:
            uv_toml = Path(place) / "uv.toml"
            uv_toml.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in uv.items()))
            volumes.append(f"{uv_toml}:/etc/uv/uv.toml:ro")
        yield volumes
