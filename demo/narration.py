"""Says on the terminal what happens, so that a stranger can follow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import click

WIDTH = 66


@contextmanager
def step(what: str) -> Iterator[Callable[[str], None]]:
    """One line: what is being done while it is, then what came of it and the seconds it took."""
    outcome: list[str] = []
    click.echo(f"  {what} ... ", nl=False)
    started = time.monotonic()
    try:
        yield outcome.append
    except BaseException:
        click.echo()
        raise
    said = len(what) + 7
    result = ", ".join(outcome)
    click.echo(f"{result:<{max(WIDTH - said, 0)}}  {time.monotonic() - started:5.1f} s")


def heading(text: str) -> None:
    click.echo()
    click.secho(text, bold=True)


def line(text: str = "") -> None:
    click.echo(f"  {text}" if text else "")


def bar(label: str, length: int) -> AbstractContextManager[Any]:
    """A progress bar on a terminal, its label otherwise."""
    return click.progressbar(length=length, label=f"  {label}", width=30)


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
