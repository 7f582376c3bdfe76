"""A recorded failure is replayed as it was printed."""

import subprocess
import sys

from tests.core.test_engine_log import text_of


def test_a_recorded_text_is_printed_and_the_process_ends() -> None:
    said = text_of("vllm-0.32.0-arch")
    done = subprocess.run(
        [sys.executable, "-m", "vllm_sim", "model"],
        env={"PYTHONPATH": "images/vllm-sim", "VLLM_SIM_FAILURE": said},
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, said + "\n")
