"""The metrics for OpenTelemetry, through its API: the host's SDK says when they are read and where they go.

All numbers are in the database, so one process is enough. Needs the extra: ``pip install
django-recent-workflows[opentelemetry]``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import accumulate
from math import isfinite
from typing import Final

from django.db import DatabaseError, InterfaceError, connections
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter

from workflows_tasks.host import host
from workflows_tasks.monitoring import telemetry
from workflows_tasks.monitoring.spans import SCOPE
from workflows_tasks.monitoring.status import Status, status

PREFIX: Final = "recent_workflows_"

KEPT_S: Final = 1.0
"""Seconds for which one reading serves. The SDK asks each instrument by itself, one after the other."""

Observe = Callable[[Status], Iterator[Observation]]


def register(provider: MeterProvider | None = None) -> None:
    """Make the instruments, with the given provider or the global one; once, in one process of the project.

    While the database does not answer, ``up`` is 0 and the only one that is observed. Names have no unit: a
    translation to Prometheus' names would add it.
    """
    meter, read = get_meter(SCOPE, meter_provider=provider), _Reading()

    def observing(observe: Observe) -> list[Callable[[CallbackOptions], Iterator[Observation]]]:
        def callback(_: CallbackOptions) -> Iterator[Observation]:
            now = read()
            return iter(()) if now is None else observe(now)

        return [callback]

    def up(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(int(read() is not None))

    meter.create_observable_gauge(PREFIX + "up", [up], description=telemetry.UP)
    for name, description in telemetry.GAUGES.items():
        meter.create_observable_gauge(PREFIX + name, observing(_by_shard(name)), description=description)
    for name, description in telemetry.PROCESS_GAUGES.items():
        meter.create_observable_gauge(PREFIX + name, observing(_of_all(name)), description=description)
    for name, description in telemetry.COUNTERS.items():
        meter.create_observable_counter(PREFIX + name, observing(_counter(name)), description=description)
    for name, description in telemetry.HISTOGRAMS.items():
        # There is no observable histogram, so these are its parts as Prometheus has them. No counters, to which a
        # translation to Prometheus' names would add "_total".
        for part, observe in {"bucket": _buckets(name), "sum": _counter(f"{name}:sum"), "count": _count(name)}.items():
            meter.create_observable_up_down_counter(
                f"{PREFIX}{name}_{part}", observing(observe), description=description
            )


class _Reading:
    """The state of this moment, or None if the database does not answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until_s = 0.0
        self._now: Status | None = None

    def __call__(self) -> Status | None:
        with self._lock:
            if time.monotonic() >= self._until_s:
                self._now = None
                with suppress(DatabaseError, InterfaceError):
                    self._now = status()
                # The SDK's own thread has a connection of its own, which no request's end looks after.
                connections[host().database].close_if_unusable_or_obsolete()
                self._until_s = time.monotonic() + KEPT_S
            return self._now


def _by_shard(name: str) -> Observe:
    return lambda now: (Observation(shard.gauges[name], {"shard": str(shard.shard)}) for shard in now.shards)


def _of_all(name: str) -> Observe:
    # Nothing of what never was: the SDK takes no infinite value.
    return lambda now: (Observation(value) for value in [now.gauges[name]] if isfinite(value))


def _counter(name: str) -> Observe:
    return lambda now: iter([Observation(now.counters.get(name, 0))])


def _count(name: str) -> Observe:
    return lambda now: iter([Observation(sum(telemetry.histogram(now.counters, name)))])


def _buckets(name: str) -> Observe:
    def observe(now: Status) -> Iterator[Observation]:
        counts = accumulate(telemetry.histogram(now.counters, name))
        for bound, count in zip((*map(str, telemetry.BUCKETS_S), "+Inf"), counts, strict=True):
            yield Observation(count, {"le": bound})

    return observe
