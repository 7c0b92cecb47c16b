"""Times contenders against each other in turns, so that whatever disturbs the machine disturbs them all."""

import random
import time
from collections.abc import Hashable, Mapping
from statistics import median
from typing import TypeVar

from benchmarks.dialects import Call

_Name = TypeVar("_Name", bound=Hashable)

# A turn lasts about this long: a short call is timed many times in it, and has many turns. A shared processor can
# change its speed by half between one turn and the next; the median of a few turns would be that of luck.
_TURN_S = 0.01
_MOST_CALLS = 2_000
# Idle workers of a BLAS or OpenMP pool spin for a while before they sleep: not in the next one's turn. The caller stays
# awake meanwhile: on a virtual machine a caller that has slept often finds its workers on its own processor, and two
# threads then take longer than one, for a whole turn, whoever's they are.
_REST_S = 0.03


def time_calls(calls: Mapping[_Name, Call], *, rounds: int, seconds: float) -> dict[_Name, list[float]]:
    """Time each contender once a round, in an order drawn anew each time.

    There are at least `rounds` rounds, and more until every contender's turns, without the rests between them, have
    lasted `seconds` on average. The first call of a turn, which finds another's data in the caches, does not count.
    All must have been called before: that compiles.

    Returns
    -------
    dict
        A list for each contender: the median duration of its calls in each round.
    """
    repeats = {name: _calls_per_turn(call) for name, call in calls.items()}
    durations: dict[_Name, list[float]] = {name: [] for name in calls}
    order, shuffle = list(calls), random.Random(0).shuffle
    played, spent = 0, 0.0
    while calls and (played < rounds or spent < seconds * len(calls)):
        played += 1
        shuffle(order)
        for name in order:
            _stay_awake(_REST_S)
            start = time.perf_counter()
            time_call(calls[name])
            durations[name].append(median(time_call(calls[name]) for _ in range(repeats[name])))
            spent += time.perf_counter() - start
    return durations


def _stay_awake(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


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
