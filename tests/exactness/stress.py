"""Rounds of writers, flushers and a filler with random delays; after each the table must be exact.

::

    python -m tests.exactness.stress --rounds 1000 --delay-ms 60 [--mutation no-lock] [--seed 0]

Looks for interleavings that nobody thought of; what it finds becomes a test that steps through it. It starts its own
servers and ends with status 1 if a round was inexact.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Outcome:
    """What the rounds came to."""

    rounds: int = 0
    inexact: list[int] = field(default_factory=list)
    """Their numbers, which are their seeds."""
    errors: list[str] = field(default_factory=list)
    retries: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        told = {**asdict(self), "inexact": len(self.inexact), "errors": len(self.errors)}
        return " ".join(f"{name}={value:.0f}" for name, value in told.items())


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.exactness.stress", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--delay-ms", type=float, default=60.0, help="longest of the random delays")
    parser.add_argument("--mutation", help="take a mechanism out of the package first; see mutants")
    parser.add_argument("--seed", type=int, default=0, help="number of the first round")
    options = parser.parse_args(argv)

    from demo.servers import servers

    with tempfile.TemporaryDirectory(prefix="exactness-stress-") as directory:
        Path(directory).chmod(0o755)  # as root PostgreSQL runs as somebody else, who must reach its files
        with servers(Path(directory)) as environment:
            _set_up({**environment, "CELERY_BROKER_URL": "memory://"})
            outcome = _run(options)
    print(options.mutation or "as it is", outcome, flush=True)  # noqa: T201
    for error in outcome.errors[:5]:
        print(error, flush=True)  # noqa: T201
    return bool(outcome.inexact or outcome.errors)


def _set_up(environment: dict[str, str]) -> None:
    os.environ.update(environment)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.hosts.platform.settings")
    import django
    from django.core.management import call_command

    import celeryconfig

    django.setup()
    celeryconfig.app.set_current()
    call_command("migrate", verbosity=0)


def _run(options: argparse.Namespace) -> Outcome:
    import logging

    from django.test import override_settings

    from tests.exactness import mutants
    from tests.exactness.rounds import TOLD_EVERY, settings_for_rounds, stage

    logging.disable(logging.CRITICAL)  # deadlocks are counted
    if options.mutation:
        mutants.apply(options.mutation)
    outcome, began = Outcome(), time.monotonic()
    with override_settings(RECENT_WORKFLOWS=settings_for_rounds()), stage(options.delay_ms / 1000) as play:
        for number in range(options.seed, options.seed + options.rounds):
            play(number, outcome)
            outcome.seconds = time.monotonic() - began
            if outcome.rounds % TOLD_EVERY == 0:
                print("...", outcome, flush=True)  # noqa: T201
    return outcome


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
