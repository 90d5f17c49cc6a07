"""Taking times so that they can be compared although other work goes on beside: contenders take turns.

A round asks every contender once, in an order that changes. What slows the machine down for a while slows all of them
down, and a ratio is taken within a round.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

Contender = Callable[[], object]

SHORTEST_S = 0.003
"""A call that takes less is repeated within a round until about this much time has passed."""


def interleaved(contenders: Mapping[str, Contender], *, rounds: int, budget_s: float = 10.0) -> dict[str, list[float]]:
    """Seconds a call of each contender in each round. Who has used up ``budget_s`` sits the later rounds out."""
    draw = random.Random(rounds)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    repeats = {name: _repeats(call) for name, call in contenders.items()}
    used_s = dict.fromkeys(contenders, 0.0)
    order = list(contenders)
    for _ in range(rounds):
        draw.shuffle(order)
        for name in order:
            if used_s[name] < budget_s:
                taken_s = _time_s(contenders[name], repeats[name])
                used_s[name] += taken_s * repeats[name]
                times[name].append(taken_s)
    return times


def once_s(call: Contender) -> float:
    """Seconds of one call."""
    return _time_s(call, 1)


def _repeats(call: Contender) -> int:
    call()  # warms the caches
    return max(round(SHORTEST_S / max(once_s(call), 1e-6)), 1)


def _time_s(call: Contender, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats


def quantile(values: Sequence[float], q: float) -> float:
    """The ``q`` quantile: the value that this part of the others is not above."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * q), len(ordered) - 1)]
