"""Processes that save at a rate, and a worker that flushes beside them: what they cost, counted.

Each shard has one run. A saver process is told its runs and their rates, connects, says that it is ready, and begins
when it is told to. It saves as often as its rate says, late or not: their number does not depend on the machine.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.commands import ROOT
from tests.gate import Gate
from tests.hosts.environment import OVERRIDES

if TYPE_CHECKING:
    from tests.integration.nudge.worker import Worker


@dataclass(frozen=True, slots=True)
class Plan:
    """``rates``: run's key -> saves a second of one process."""

    rates: Mapping[str, float]
    processes: int
    seconds: float


def main() -> None:
    """A saver: its plan comes on the command line, "go" on standard input; it prints how often it saved each run."""
    import django

    django.setup()
    import celeryconfig
    from demo.bots.models import SavedRun
    from workflows_tasks.capture import nudge

    celeryconfig.app.set_current()
    rates, seconds, seed = json.loads(sys.argv[1])
    runs = SavedRun.objects.defer("state").in_bulk([int(key) for key in rates])
    with nudge._producer() as producer:
        producer.connection.ensure_connection(max_retries=3)
    nudge._quietly(lambda client: client.ping(), nudge.WORKER_TIMEOUT_S)
    chance = random.Random(seed)
    due = [(chance.expovariate(rate), key) for key, rate in rates.items() if rate]
    heapq.heapify(due)
    saves: Counter[str] = Counter()
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    began_s = time.monotonic()
    while due and due[0][0] < seconds:
        at_s, key = heapq.heappop(due)
        time.sleep(max(began_s + at_s - time.monotonic(), 0))  # a rate, not a wait for anybody
        runs[int(key)].save(update_fields=["updated_at"])
        saves[key] += 1
        heapq.heappush(due, (at_s + chance.expovariate(rates[key]), key))
    print(json.dumps([saves, time.monotonic() - began_s]), flush=True)  # noqa: T201


@contextmanager
def start_savers(plan: Plan, environment: Mapping[str, str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Saver processes that wait for "go"."""
    with ExitStack() as stack:
        children = []
        for number in range(plan.processes):
            argument = json.dumps([dict(plan.rates), plan.seconds, number])
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.nudge.savers", argument],
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            stack.callback(_ended, child)
            children.append(child)
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        yield children


def _ended(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


def save(children: list[subprocess.Popen[str]]) -> tuple[Counter[str], float]:
    """Let them save; returns how often each run was saved, and the seconds that it took."""
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    total: Counter[str] = Counter()
    longest_s = 0.0
    for child in children:
        assert child.stdout is not None
        saves, seconds = json.loads(child.stdout.readline())
        total.update(saves)
        longest_s = max(longest_s, seconds)
    return total, longest_s


def environment(name: str, redis_url: str) -> dict[str, str]:
    """Of processes that use this database, this gate to Redis, and keys and a queue of this name."""
    from django.conf import settings

    url, database = os.environ["DATABASE_URL"], settings.DATABASES["default"]["NAME"]
    overrides: dict[str, Any] = {"REDIS_URL": redis_url, "KEY_PREFIX": name, "QUEUE": name, "SAVE_TIMEOUT_S": 5.0}
    return {
        "DATABASE_URL": f"{url.rpartition('/')[0]}/{database}",
        OVERRIDES: json.dumps({**overrides, "BROKER_TIMEOUT_S": 5.0}),
        "DJANGO_SETTINGS_MODULE": "tests.hosts.platform.settings",
    }


@dataclass(frozen=True, slots=True)
class Measured:
    """What savers cost."""

    saves: Mapping[str, int]
    """By the run's key."""
    messages: Mapping[int, int]
    """By shard."""
    round_trips: int
    seconds: float


def measured(plan: Plan, name: str, worker: Worker) -> Measured:
    """Savers beside a worker, until nothing is under way any more."""
    with Gate(os.environ["REDIS_URL"]) as gate, start_savers(plan, environment(name, gate.url)) as children:
        before = gate.bursts
        saves, seconds = save(children)
        trips = gate.bursts - before
    return Measured(saves, worker.until_idle(), trips, seconds)


if __name__ == "__main__":
    main()
