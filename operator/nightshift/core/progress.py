"""How far a download is, as people read it."""

from nightshift.core.observed import Observed, PodFacts

PROGRESS_SECONDS = 10.0
"""A download under way is asked so often."""


def progress_sentence(pod: PodFacts, observed: Observed) -> str:
    """How far a pod's download is, in tenths, so that the sentence changes seldom.

    Worked example: 3,200,000,000 of 16,100,000,000 bytes done gives
    ``Downloading the model: 10 % of 16.1 GB.``
    """
    progress = observed.progress.get(pod.name)
    if progress is None or not progress.bytes_total:
        return "Downloading the model."
    tenths = int(10 * progress.bytes_done / progress.bytes_total)
    return f"Downloading the model: {10 * tenths} % of {progress.bytes_total / 1e9:.1f} GB."
