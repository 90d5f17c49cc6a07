"""One writer of a soak in a process of its own: ``python -m tests.endurance.writing SEED OPERATIONS RATE REPORT``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import django

import celeryconfig  # noqa: F401  # saves send their messages through the host's Celery app
from demo.host import end_with_parent


def main(seed: str, operations: int, rate: float, report: Path) -> None:
    end_with_parent()
    django.setup()
    from tests.endurance.hosting import Hosting
    from tests.endurance.writer import SwallowedErrors, Writer

    writer = Writer(Hosting(seed), operations=operations, rate=rate, report=report)
    logging.getLogger("workflows_tasks").addHandler(SwallowedErrors(writer))
    writer.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
