"""Evidence that may be looked at as often as one likes.

An e-process starts at 1 and stays at or below 1 on average, at whatever time one stops, while the candidate is as good
as the stable revision. So the chance that it ever reaches 1/alpha is at most alpha (Ville 1939), however many looks
there are and whenever they happen: a restarted operator, a person's pause and a longer step change nothing. Averages
of e-processes are e-processes, also of dependent ones. Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic statistics
and safe anytime-valid inference", Statistical Science 38(4), 2023.

Everything is told as natural logarithms.
"""

import math
from collections.abc import Sequence

SIGN_CHANCES = (0.6, 0.7, 0.8, 0.9, 0.98)
"""Chances that the candidate does worse on a pair, against which one half is weighed."""

BETS = (0.1, 0.25, 0.5, 0.75, 0.95)
"""Shares of the stake that are put on the candidate's answer being worse."""


def mean_evidence(logarithms: Sequence[float]) -> float:
    """The logarithm of the mean of evidence that is told as logarithms; 0 of nothing.

    Worked example: evidence of 1 and 3 is 2 on average: mean_evidence((0, log 3)) = log 2.
    """
    if not logarithms:
        return 0.0
    top = max(logarithms)
    return top + math.log(sum(math.exp(value - top) for value in logarithms) / len(logarithms))


def sign_evidence(worse: int, better: int) -> float:
    """That the candidate does worse on more than half of the pairs that differ.

    The mean over chances t of (2 t)**worse (2 - 2 t)**better. With t fixed, each pair multiplies by its probability if
    worse is t, over one half. Exact: no distribution of the values is assumed.

    Worked example: 13 of 13 worse: 1.96**13 / 5 and less from the other chances, in all 1785: enough for alpha 0.0006.
    """
    return mean_evidence([worse * math.log(2 * t) + better * math.log(2 - 2 * t) for t in SIGN_CHANCES])


def betting_evidence(drops: Sequence[float]) -> float:
    """That numbers from -1 to 1 are above 0 on average.

    The mean over bets b of the product of 1 + b drop. Waudby-Smith and Ramdas, "Estimating means of bounded random
    variables by betting", JRSS-B 86(1), 2024. For answers that are right or wrong it is McNemar's test by pairs.

    Worked example: 13 drops of 1 and 30 of 0: 1.95**13 / 5 and less from the other bets, in all 1511.
    """
    return mean_evidence([sum(math.log1p(bet * drop) for drop in drops) for bet in BETS])


def normal_evidence(score: float, information: float, mixture: float) -> float:
    """That a sum whose variance is information is above 0 on average.

    The one-sided normal mixture: 2 sqrt(m / (v + m)) exp(s**2 / (2 (v + m))) Phi(s / sqrt(v + m)), with s the sum, v
    the information and m the mixture. Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform,
    nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49(2), 2021. It is asymptotic where the
    variance is estimated (Waudby-Smith and others, 2024).

    Worked example: without information it is log 1 = 0. At v = 300, m = 40 and s = 4.4 sqrt(300) = 76.2 it is 8.16,
    evidence of about 3,500.

    Args:
        score: The sum.
        information: Its variance if the candidate is as good as the stable revision.
        mixture: The information at which the evidence grows best.
    """
    whole = information + mixture
    at = score / math.sqrt(whole)
    below = 0.5 * math.erfc(-at / math.sqrt(2))
    if below <= 0.0:
        return -math.inf
    return math.log(2 * below) + 0.5 * math.log(mixture / whole) + at * at / 2


def at_most(successes: int, trials: int) -> float:
    """The chance of so few successes or fewer in fair coin tosses.

    Worked example: 0 of 5: 1/32.
    """
    if successes < 0:
        return 0.0
    if successes >= trials:
        return 1.0
    if trials > 200:
        at = (successes + 0.5 - trials / 2) / math.sqrt(trials / 4)
        return 0.5 * math.erfc(-at / math.sqrt(2))
    chance = total = 0.5**trials
    for count in range(1, successes + 1):
        chance *= (trials - count + 1) / count
        total += chance
    return total
