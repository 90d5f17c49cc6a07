"""``python -m tests.integration.nudge.rates [--seconds 30]``: messages and round trips at many rates, beside the model.

Real savers, a real worker, PostgreSQL and Valkey of its own. On a quiet machine both counts are those of the model.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import uuid
from pathlib import Path

from demo.servers import servers

RATES = (0.1, 1, 5, 44)
"""Saves a second a shard. 200 a second are a row of their own, for eight shards of it are more than two cores save."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="recent-workflows-rates-") as directory:
        Path(directory).chmod(0o755)
        with servers(Path(directory)) as environment:
            os.environ.update(environment, DJANGO_SETTINGS_MODULE="tests.hosts.platform.settings")
            _table(seconds)


def _table(seconds: float) -> None:
    import django

    django.setup()
    from django.conf import settings
    from django.test.utils import setup_databases, teardown_databases

    import celeryconfig
    from tests import hosts
    from tests.integration.nudge.model import Model
    from tests.integration.nudge.savers import Plan, measured
    from tests.integration.nudge.test_messages import quieten, runs_by_shard
    from tests.integration.nudge.worker import working

    made = setup_databases(verbosity=0, interactive=False, serialized_aliases=[])
    celeryconfig.app.set_current()
    print("saves/s a shard, shards, processes: messages a save (model), round trips a save (model)")  # noqa: T201
    for shards, rate in [*((8, rate) for rate in RATES), (1, 200)]:
        for processes in (1, 6):
            name = f"rates-{uuid.uuid4()}"
            settings.RECENT_WORKFLOWS = {**settings.RECENT_WORKFLOWS, "KEY_PREFIX": name, "QUEUE": name}
            _forget()
            runs = runs_by_shard(hosts.current())
            quieten(celeryconfig.app, name)
            plan = Plan({str(runs[n].pk): rate / processes for n in range(shards)}, processes, seconds)
            with working(celeryconfig.app, name) as worker:
                found = measured(plan, name, worker)
            saves = sum(found.saves.values())
            model = Model(saves / found.seconds / shards, processes).run(3_000)
            print(  # noqa: T201
                f"{rate:6g} {shards:2} {processes:2}: {sum(found.messages.values()) / saves:.4f} "
                f"({model.messages_a_save:.4f}), {found.round_trips / saves:.3f} ({model.round_trips_a_save:.3f}); "
                f"{saves} saves in {found.seconds:.0f} s",
                flush=True,
            )
    teardown_databases(made, verbosity=0)


def _forget() -> None:
    from django.core.signals import setting_changed

    from workflows_tasks import conf
    from workflows_tasks.capture import nudge

    setting_changed.send(None, setting=conf.NAME, value=None, enter=True)
    nudge.reset()


if __name__ == "__main__":
    main()
