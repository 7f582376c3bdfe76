"""The demo's own transcript in README.md: kept in docs/demo.txt, and put between two marks.

``python -m tools.transcript`` takes over what the last `make demo` on this machine wrote.
"""

import sys
from pathlib import Path

from e2e.cluster.settings import Settings
from tools.repository import ROOT

KEPT = Path("docs/demo.txt")
PAGE = Path("README.md")
WRITTEN = "demo-transcript.txt"
"""The demo's file below ``NIGHTSHIFT_HOME``."""
BEGIN = "<!-- The transcript of `make demo`; `make transcript` renews it. -->\n```console\n"
END = "```\n<!-- End of the transcript. -->\n"


def with_transcript(page: str, transcript: str) -> str:
    """A page with a transcript in place of what stands between the marks.

    Raises:
        ValueError: The page does not have each mark once.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"{PAGE} must have each mark of the transcript once: {BEGIN!r}, {END!r}")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}{transcript.strip()}\n{END}{after}"


def readme() -> str:
    """README.md as it must be."""
    return with_transcript((ROOT / PAGE).read_text(), (ROOT / KEPT).read_text())


def main() -> int:
    """Keep the last demo's transcript, and put it into README.md; 1 where there is none."""
    written = Settings.from_environment().home / WRITTEN
    if not written.exists():
        sys.stderr.write(f"there is no {written}; run: make demo\n")
        return 1
    (ROOT / KEPT).write_text(written.read_text())
    (ROOT / PAGE).write_text(readme())
    return 0


if __name__ == "__main__":
    sys.exit(main())
