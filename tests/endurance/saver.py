"""Saves one run and dies on the way: ``python -m tests.endurance.saver WORKSPACE``, with an order as for a worker."""

from __future__ import annotations

import os
import sys

import django
from django.db import transaction


def main(run: str) -> None:
    os.setpgrp()  # an order kills the whole group: not that of whoever started this
    django.setup()
    from tests import hosts
    from tests.endurance import fatal
    from workflows_tasks import dispatch

    fatal.arm()
    if fatal.ordered() == fatal.ADDED:
        # No marker is taken while the broker is known to be down: the id waits, and nobody has been told.
        dispatch._breaker.fail(60)
    host = hosts.current()
    with transaction.atomic():
        host.save_again(host.run_model._base_manager.get(pk=run))


if __name__ == "__main__":
    main(sys.argv[1])
