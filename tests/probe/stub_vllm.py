"""Packages that look like vLLM's of several versions, as far as the preflight's program looks at them."""

from collections.abc import Mapping
from pathlib import Path

PARSER = """
import argparse

class FlexibleArgumentParser(argparse.ArgumentParser):
    def parse_args(self, args=None, namespace=None):
        named = [(*a.partition("="), a.startswith("--")) for a in args]
        args = [(flag.replace("_", "-") if is_flag else flag) + rest + value for flag, rest, value, is_flag in named]
        return super().parse_args(args, namespace)
"""

SERVE = """
import os
from vllm.platforms import current_platform

def make_arg_parser(parser):
    if not current_platform.device_type:
        raise RuntimeError("Failed to infer device type")
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--model")
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--max-num-seqs", type=int)
    parser.add_argument("--max-num-batched-tokens", type=int)
    parser.add_argument("--quantization")
    parser.add_argument("--chat-template")
    parser.add_argument("--enable-auto-tool-choice", action="store_true")
    parser.add_argument("--tool-call-parser")
    parser.add_argument("--tool-parser-plugin", default="")
    parser.add_argument("--reasoning-parser", default="")
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--hf-overrides")
    for flag in FLAGS:
        parser.add_argument(flag)
    return parser

def validate_parsed_serve_args(args):
    given = args.chat_template
    if given and "{" not in given and not os.path.exists(given):
        raise ValueError(f"The supplied chat template string ({given}) appears path-like, but doesn't exist!")
    if args.enable_auto_tool_choice and not args.tool_call_parser:
        raise TypeError("Error: --enable-auto-tool-choice requires --tool-call-parser")
"""

PLATFORMS = """
_current_platform = None

class Seen:
    device_type = "DEVICE"

def __getattr__(name):
    global _current_platform
    if name != "current_platform":
        raise AttributeError(name)
    _current_platform = _current_platform or Seen()
    return _current_platform
"""

REGISTRY = """
_PREVIOUSLY_SUPPORTED_MODELS = {"MotifForCausalLM": "0.10.2"}

class ModelRegistry:
    @staticmethod
    def get_supported_archs():
        return {"LlamaForCausalLM": 1, "Qwen3ForCausalLM": 1}.keys()
"""

ENGINE_ARGUMENTS = """
class AsyncEngineArgs:
    @classmethod
    def from_cli_args(cls, args):
        found = cls()
        found.args = args
        return found

    def create_model_config(self):
        if not self.args.model:
            raise RuntimeError("no model")
        if (self.args.max_model_len or 0) > 2048:
            raise ValueError("1 validation error for ModelConfig\\n  Value error, User-specified max_model_len ("
                f"{self.args.max_model_len}) is greater than the derived max_model_len (max_position_embeddings=2048.0"
                " or model_max_length=None in model's config.json). [type=value_error, input_value=ArgsKwargs(())]")
"""

TEMPLATES = """
class TemplateSyntaxError(Exception):
    pass

class Compiled:
    def __init__(self, text):
        self.text = text

    def render(self, **values):
        if "raise_exception" in self.text:
            raise RuntimeError("Conversation roles must alternate")
        return values["messages"][0]["content"]

def _compile_jinja_template(text):
    if "{% if" in text and "{% endif" not in text:
        raise TemplateSyntaxError("unexpected end of template")
    return Compiled(text)
"""

LISTED = "class ToolParserManager:\n    list_registered = staticmethod(lambda: ['hermes', 'llama3_json'])\n"
HELD = "class ToolParserManager:\n    tool_parsers = {'hermes': 1, 'llama3_json': 1}\n"
LAZY = (
    "class ReasoningParserManager:\n    reasoning_parsers = {}\n    lazy_parsers = {'qwen3': 'vllm.reasoning.qwen3'}\n"
)


def vllm_files(version: str, *, device: str = "cpu") -> dict[str, str]:
    """The files of a stub, by path; what stands where is taken from the sources of the version."""
    release = tuple(int(part) for part in version.split(".")[:2])
    flags = ["--swap-space"] if release < (0, 18) else ["--shutdown-timeout"]
    serve = "entrypoints/launchers/cli_args" if release >= (0, 32) else "entrypoints/openai/cli_args"
    tools = "tool_parsers" if release >= (0, 14) else "entrypoints/openai/tool_parsers"
    parser = "utils/argparse_utils" if version != "0.11.0" else "utils/__init__"
    return {
        "vllm/__init__.py": f"__version__ = {version!r}\n",
        f"vllm/{parser}.py": PARSER,
        f"vllm/{serve}.py": f"FLAGS = {flags}\n{SERVE}",
        f"vllm/{tools}/__init__.py": LISTED if release >= (0, 14) else HELD,
        "vllm/reasoning/__init__.py": LAZY if release >= (0, 14) else LAZY.replace("lazy_parsers", "reasoning_parsers"),
        "vllm/platforms/__init__.py": PLATFORMS.replace("DEVICE", device),
        "vllm/platforms/cpu.py": "class CpuPlatform:\n    device_type = 'cpu'\n",
        "vllm/plugins/__init__.py": "def load_general_plugins():\n    pass\n",
        "vllm/model_executor/models/registry.py": REGISTRY,
        "vllm/model_executor/layers/quantization/__init__.py": "QUANTIZATION_METHODS = ['awq', 'fp8']\n",
        "vllm/engine/arg_utils.py": ENGINE_ARGUMENTS,
        "transformers/__init__.py": "class GptNeoForCausalLM:\n    pass\n",
        "transformers/utils/chat_template_utils.py": TEMPLATES,
        "torch/__init__.py": "raise RuntimeError('torch is not to be loaded for its version')\n",
        "torch/version.py": "__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\nhip = None\n",
        f"vllm-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cu130\n",
    }


def write(files: Mapping[str, str], where: Path) -> Path:
    """Write a stub's files, and a package's own file wherever one is missing."""
    for path, text in files.items():
        target = where / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for folder in [item for item in where.rglob("*") if item.is_dir() and item.suffix != ".dist-info"]:
        (folder / "__init__.py").touch()
    return where
