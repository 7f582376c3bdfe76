"""What several windows came to together."""

from nightshift.api.tally import ErrorTally, LoadTally, Tally
from nightshift.core.analysis import errors, finish, golden, latency, preemptions, throughput
from nightshift.core.analysis.evidence import Arm, GoldenPair


def with_window(tally: Tally, stable: Arm, candidate: Arm, seconds: float) -> Tally:
    """A tally with one more window, of which then nothing else need be kept.

    Args:
        tally: Of the windows before.
        stable: What the stable revision did in the window.
        candidate: What the candidate did in it.
        seconds: How long it was.
    """
    ended, reasons = finish.counted(tally.ended, tally.reasons, stable, candidate)
    return Tally(
        seconds=tally.seconds + seconds,
        errors=errors.counted(tally.errors, stable, candidate),
        first_token=latency.counted(tally.first_token, stable.first_token, candidate.first_token),
        inter_token=latency.counted(tally.inter_token, stable.inter_token, candidate.inter_token),
        total=latency.counted(tally.total, stable.total, candidate.total),
        ended=ended,
        reasons=reasons,
        throughput=throughput.counted(tally.throughput, stable, candidate),
        preemptions=preemptions.counted(tally.preemptions, stable, candidate),
        load=_load(tally.load, stable, candidate),
    )


def _load(load: LoadTally, stable: Arm, candidate: Arm) -> LoadTally:
    return LoadTally(
        candidate_requests=load.candidate_requests + candidate.requests,
        candidate_replica_seconds=load.candidate_replica_seconds + candidate.replica_seconds,
        candidate_busy_seconds=load.candidate_busy_seconds + _busy(candidate),
        stable_requests=load.stable_requests + stable.requests,
        stable_replica_seconds=load.stable_replica_seconds + stable.replica_seconds,
        stable_busy_seconds=load.stable_busy_seconds + _busy(stable),
    )


def _busy(arm: Arm) -> float:
    return (arm.mean_running or 0.0) * arm.replica_seconds


def all_errors(tally: Tally, pairs: tuple[GoldenPair, ...], synthetic: int) -> ErrorTally:
    """Errors of the traffic and of golden questions; of these only once, where the traffic's counts hold them too."""
    return tally.errors if synthetic or not pairs else errors.counted(tally.errors, *golden.asked(pairs))


def is_asked_more(load: LoadTally, ratio: float, busy: float) -> bool:
    """Whether the candidate's replicas are asked so much more often than the stable one's that this makes them slower.

    Worked example: 120 requests in 60 s on one replica against 60: twice as often. With 1.5 as the ratio that is
    more, if the candidate works on at least busy requests at a time.
    """
    if load.candidate_replica_seconds <= 0 or load.stable_replica_seconds <= 0:
        return False
    asked = load.candidate_requests / load.candidate_replica_seconds
    kept = load.stable_requests / load.stable_replica_seconds
    running = load.candidate_busy_seconds / load.candidate_replica_seconds
    return asked > ratio * kept and running >= busy
