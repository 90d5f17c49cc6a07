"""The process whose children are hosts."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from tests.commands import ROOT
from tests.integration.keys.shapes import Shape

Trial = Callable[[Shape, int], str]
"""``trial(shape, seed)``: what went wrong; empty if nothing did."""


@contextmanager
def trials(directory: Path, url: str = "") -> Iterator[Trial]:
    """Its databases are of this server, or of the one in ``DATABASE_URL``."""
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    environment["DATABASE_URL"] = url or environment["DATABASE_URL"]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.integration.keys.projects"],
        cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    numbers = count()

    def trial(shape: Shape, seed: int) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        name = f"shape_{os.getpid()}_{next(numbers)}"
        process.stdin.write(json.dumps([dataclasses.asdict(shape), str(directory), name, seed]) + "\n")
        process.stdin.flush()
        answer: str = json.loads(process.stdout.readline())
        return answer

    try:
        yield trial
    finally:
        process.kill()
        process.communicate()
