import pytest

from nightshift.core.engine_flags import FLAGS
from nightshift.core.flag_history import ADDED, REMOVED, flag_notes


@pytest.mark.parametrize(
    ("said", "version", "notes"),
    [
        pytest.param(
            "unrecognized arguments: --swap-space=4",
            "0.32.0",
            ["vLLM 0.18.0 removed --swap-space. Leave it out: preempted requests are computed again."],
            id="a flag that was removed",
        ),
        pytest.param(
            "unrecognized arguments: --swap_space 4",
            None,
            ["vLLM 0.18.0 removed --swap-space. Leave it out: preempted requests are computed again."],
            id="spelled with underscores, at a version that is not known",
        ),
        pytest.param(
            "unrecognized arguments: --custom-histogram-buckets={}",
            "0.31.0",
            ["--custom-histogram-buckets exists from vLLM 0.32.0 on; raise engine.version, or remove it."],
            id="a flag that comes later",
        ),
        pytest.param(
            "unrecognized arguments: --spec-method ngram",
            "0.20.0",
            [
                "--spec-method exists from vLLM 0.22.0 on; raise engine.version, or remove it. "
                "Use --speculative-config with a JSON object before that."
            ],
            id="a flag that comes later, and what to use before",
        ),
        pytest.param(
            "unrecognized arguments: --max-model-length=1",
            "0.32.0",
            ["Did you mean --max-model-len? Correct --max-model-length in engine.args."],
            id="a flag that is misspelled",
        ),
        pytest.param(
            "unrecognized arguments: --quantisation=fp8",
            "0.32.0",
            ["--quantisation looks like --quantization, which is none of engine.args: use model.quantization."],
            id="a misspelled flag that Nightshift owns",
        ),
        pytest.param("unrecognized arguments: --zzz", "0.32.0", [], id="a flag that nobody knows"),
        pytest.param("unrecognized arguments: --max-model-len=1", "0.32.0", [], id="a flag that is right"),
        pytest.param("argument --swap-space: invalid", "0.32.0", [], id="another kind of refusal"),
        pytest.param(
            "unrecognized arguments: --swap-space 1 --device x --task y --rope-theta 1",
            "0.32.0",
            [
                f"vLLM {REMOVED[flag].version} removed {flag}. {REMOVED[flag].instead}"
                for flag in ("--swap-space", "--device", "--task")
            ],
            id="at most three notes",
        ),
        pytest.param("unrecognized arguments: --nnodes=1", "nightly", [], id="a version that is none"),
    ],
)
def test_a_refused_flag_is_explained(said: str, version: str | None, notes: list[str]) -> None:
    assert flag_notes(said, version) == notes


def test_what_is_advised_exists() -> None:
    assert [flag for flag in REMOVED if flag in FLAGS] == []
    assert [flag for flag in ADDED if flag not in FLAGS] == []
    advised = [word.split("=")[0].rstrip(",.") for change in REMOVED.values() for word in change.instead.split()]
    assert [flag for flag in advised if flag.startswith("--") and flag not in FLAGS] == []
