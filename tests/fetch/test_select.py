import pytest

from nightshift.adapters.hub import HubFile, HubRefused
from nightshift.api.fetch import FetchReason
from nightshift.fetch.select import select


def chosen(*paths: str) -> set[str]:
    files = [HubFile(path=path, size=1, git_oid="0" * 40, sha256=None) for path in paths]
    return {file.path for file in select("acme/tiny", files)}


SMALL = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "merges.txt",
    "chat_template.jinja",
    "qwen.tiktoken",
    "modeling_tiny.py",
    "model.safetensors.index.json",
    "LICENSE",
)


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        (
            {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", *SMALL},
            {"pytorch_model.bin", "model.pth", "README.md", ".gitattributes", "model.gguf", "flax_model.msgpack"},
        ),
        (
            {"model.safetensors", *SMALL},
            {
                "original/consolidated.00.pth",
                "original/model.safetensors",
                "onnx/model.onnx",
                "onnx/config.json",
                "metal/model.bin",
                "checkpoint-500/model.safetensors",
            },
        ),
        ({"pytorch_model.bin", *SMALL}, {"consolidated.00.pth", "training_args.bin", "optimizer.pt"}),
        ({"consolidated.pth", *SMALL}, {"scheduler.pth"}),
        (
            {"model.safetensors", "2_Dense/pytorch_model.bin", "1_Pooling/config.json", "modules.json"},
            {"pytorch_model.bin"},
        ),
        (
            {"model.safetensors", "2_Dense/model.safetensors"},
            {"2_Dense/pytorch_model.bin"},
        ),
    ],
)
def test_one_format_of_the_weights_and_the_small_files(kept: set[str], left: set[str]) -> None:
    assert chosen(*kept, *left) == kept


@pytest.mark.parametrize(
    "path",
    [
        "../escape.json",
        "a/../../escape.json",
        "/etc/passwd",
        "a//b.json",
        "./a.json",
        ".nightshift-manifest.json",
        "a/.nightshift-lock",
        "a\\b.json",
        "a\nb.json",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(HubRefused) as caught:
        chosen("model.safetensors", path)
    assert caught.value.reason is FetchReason.MODEL_CORRUPT


@pytest.mark.parametrize("paths", [(), ("config.json",), ("model.gguf", "config.json"), ("training_args.bin",)])
def test_without_weights_there_is_no_model(paths: tuple[str, ...]) -> None:
    with pytest.raises(HubRefused) as caught:
        chosen(*paths)
    assert caught.value.reason is FetchReason.MODEL_NOT_FOUND
