"""``python -m tests [--host NAME ...] [pytest arguments]``: the tests, against each host project in turn.

Each host is a run of its own, for Django reads its settings once. What does not depend on a host runs with the first,
``platform``. Tests are spread over processes, each with its own servers, a file at a time. Further arguments go to
pytest as they are: ``python -m tests --host library -k poison -x -n 0``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from tests.hosts import NAMES, settings_module

NOTHING_COLLECTED = 5
CORES = os.cpu_count() or 1

WITH_BYTECODE = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Tests start some hundred processes. Each would compile every module anew."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__, add_help=False)
    parser.add_argument("--host", action="append", choices=NAMES, help="only this host; may be repeated")
    chosen, passed_on = parser.parse_known_args(argv)
    hosts = chosen.host or NAMES
    failed = [host for host in hosts if not _passed(host, passed_on)]
    if failed:
        _say(f"Failed against: {', '.join(failed)}")
    return bool(failed)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _passed(host: str, arguments: list[str]) -> bool:
    _say(f"\n=== Tests against the host project '{host}' ===")
    started = time.monotonic()
    # Two for each core: much of the time a test waits for a window or a lease. The tests of other hosts wait less.
    processes = 2 * CORES if host == NAMES[0] else CORES
    spread = ["--numprocesses", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"]  # in conftest's order
    code = subprocess.run(
        [sys.executable, "-m", "pytest", *spread, *arguments],
        env={**WITH_BYTECODE, "DJANGO_SETTINGS_MODULE": settings_module(host)},
        check=False,
    ).returncode
    # With arguments that name only host-independent tests, the other hosts have none to run.
    none_due = code == NOTHING_COLLECTED and host != NAMES[0]
    outcome = "nothing to run" if none_due else f"pytest exited {code}" if code else "passed"
    _say(f"=== '{host}': {outcome}, {time.monotonic() - started:.0f} s ===")
    return none_due or not code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
