"""``python -m demo once`` and ``python -m demo serve``."""

from __future__ import annotations

import time

import click

from demo.host import end_with_parent
from demo.starting import running_host

RUNS = click.option("--runs", default=200_000, type=click.IntRange(min=5_000), help="Runs of history.")


@click.group(context_settings={"show_default": True, "max_content_width": 110})
def demo() -> None:
    """Recent workflows, denormalized: see it work, on servers of its own that are gone afterwards."""
    end_with_parent()


@demo.command()
@RUNS
@click.option("--seconds", default=12.0, type=click.FloatRange(min=1), help="How long workflows execute.")
@click.option("--rate", default=350.0, type=click.FloatRange(min=1), help="Saves a second meanwhile.")
def once(runs: int, seconds: float, rate: float) -> None:
    """Show the main job on real input, check the result, and end. Exit status 1 if anything differs."""
    started = time.monotonic()
    with running_host(runs) as (shapes, workers):
        from demo.once import run  # Django is set up only now

        exact = run(shapes, workers, seconds=seconds, saves_per_s=rate)
    took_s = time.monotonic() - started
    click.echo(f"\n{'OK: the table is exact' if exact else 'FAILED: the table differs'} ({took_s:.0f} s in all)")
    if not exact:
        raise SystemExit(1)


@demo.command()
@RUNS
@click.option("--rate", default=40.0, type=click.FloatRange(min=0.1), help="Saves a second, for as long as it stays.")
def serve(runs: int, rate: float) -> None:
    """Show a home page that updates as workflows execute, until Ctrl-C."""
    with running_host(runs) as (shapes, workers):
        from demo.serve import run  # Django is set up only now

        run(shapes, workers, saves_per_s=rate)


if __name__ == "__main__":
    demo(prog_name="python -m demo")
