"""``python -m tests.integration.keys.at_random [--hosts 200] [--seed 0]``: hosts of any shape, against the oracle."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import click

from demo.servers import servers
from tests.integration.keys.shapes import at_random
from tests.integration.keys.trials import trials


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first host")
    asked = parser.parse_args()
    began_s, wrong = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="recent-workflows-shapes-") as text:
        directory = Path(text)
        directory.chmod(0o755)
        with servers(directory) as environment:
            os.environ.update(environment)
            seeds = range(asked.seed, asked.seed + asked.hosts)
            with trials(directory) as trial, click.progressbar(seeds, label="Hosts", show_pos=True) as bar:
                for seed in bar:
                    shape = at_random(random.Random(seed))
                    if failed := trial(shape, seed):
                        wrong += 1
                        print(f"\nseed {seed}: {shape}\n{failed}", flush=True)  # noqa: T201
    print(f"{asked.hosts} hosts, {wrong} wrong, {time.monotonic() - began_s:.0f} s")  # noqa: T201
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
