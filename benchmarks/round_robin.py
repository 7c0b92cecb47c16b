"""Times contenders against each other in turns, so that whatever disturbs the machine disturbs them all."""

import random
import time
from collections.abc import Mapping
from statistics import median

from benchmarks.dialects import Call

# A turn lasts about this long, so that a short call is timed many times.
_TURN_S = 0.02
_MOST_CALLS = 2_000
# Idle workers of a BLAS or OpenMP pool spin for a while before they sleep: not in the next one's turn.
_REST_S = 0.03


def time_calls(calls: Mapping[str, Call], *, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Time each contender once a round, in an order drawn anew each time.

    There are at least `rounds` rounds, and more until every contender has had `seconds` on average. The first call of a
    turn, which finds another's data in the caches, does not count. All must have been called before: that compiles.

    Returns
    -------
    dict
        A list for each contender: the median duration of its calls in each round.
    """
    repeats = {name: _calls_per_turn(call) for name, call in calls.items()}
    durations: dict[str, list[float]] = {name: [] for name in calls}
    order, shuffle = list(calls), random.Random(0).shuffle
    end = time.perf_counter() + seconds * len(calls)
    played = 0
    while calls and (played < rounds or time.perf_counter() < end):
        played += 1
        shuffle(order)
        for name in order:
            time.sleep(_REST_S)
            time_call(calls[name])
            durations[name].append(median(time_call(calls[name]) for _ in range(repeats[name])))
    return durations


def _calls_per_turn(call: Call) -> int:
    # One interrupted call must not make a whole contender's turns short.
    seconds = min(time_call(call) for _ in range(3))
    return max(1, min(_MOST_CALLS, int(_TURN_S / seconds)))


def time_call(call: Call) -> float:
    """Give the seconds that one run takes."""
    call.before()
    start = time.perf_counter()
    call.run()
    duration = time.perf_counter() - start
    call.after()
    return duration
