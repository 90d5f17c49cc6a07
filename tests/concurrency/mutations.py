"""Which tests fail when a mechanism is taken out: ``python -m tests.concurrency.mutations [NAME ...]`` prints it.

``KILLERS`` names, for each mutation of ``mutants``, tests that must notice it: they pass as the package is, and fail
under the mutation. ``test_mutations.py`` holds them to it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

HERE: Final = Path(__file__).parent
VARIABLE: Final = "CONCURRENCY_MUTATIONS"
"""Environment variable: run copies of tests under the mutations named there (all if ``*``) in place of the tests."""

WITHIN_S: Final = 900
UNDER: Final = " under "
OPTIONS: Final = ["-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:randomly", "-n", "0"]

COMES_BACK: Final = "test_flush.py::test_a_run_comes_back_while_the_next_newest_is_searched"
MEANWHILE: Final = "test_flush.py::test_a_change_that_commits_meanwhile_is_not_forgotten"
FILLED: Final = "test_fill.py::test_a_recompute_leaves_what_a_fill_wrote_meanwhile"
MOVES: Final = "test_flush.py::test_a_run_moves_to_another_shard"
TRUNCATED: Final = "test_scopes.py::test_a_truncate_in_a_transaction_with_an_old_snapshot"
HOST_WRITES: Final = "test_capture.py::test_the_hosts_write_succeeds_where_the_log"

KILLERS: Final[dict[str, list[str]]] = {
    "no-lock": [f"{COMES_BACK}[deleted]", f"{COMES_BACK}[set back]"],
    "merged-lock": [f"{COMES_BACK}[deleted]", f"{COMES_BACK}[set back]"],
    "any-isolation": ["test_flush.py::test_statements_after_the_lock_see_what_committed_before_them"],
    "forget-all": [f"{MEANWHILE}[decided-another workspace]"],
    "forget-by-workspace": [f"{MEANWHILE}[decided-another run]"],
    "forget-by-run": [f"{MEANWHILE}[decided-the same run]"],
    "without-duplicates": [f"{MEANWHILE}[decided-the same run]"],
    "forget-unfinished": ["test_flush.py::test_what_a_full_slice_leaves_keeps_its_change"],
    "forget-first": ["test_flush.py::test_killed_at_any_step[decided]"],
    "scope-not-logged": ["test_scopes.py::test_runs_of_every_shard_follow_a_version"],
    "parts-not-logged": [
        "test_scopes.py::test_a_scope_of_many_runs_is_split",
        "test_scopes.py::test_every_run_is_split_by_workspace",
    ],
    "one-shard": ["test_scopes.py::test_runs_of_every_shard_follow_a_version"],
    "no-condition": [
        f"{FILLED}[an older run-before the flush writes]",
        f"{FILLED}[nothing-before the flush writes]",
    ],
    "condition-in-cte": [
        f"{FILLED}[an older run-while the flush waits for it]",
        f"{FILLED}[nothing-while the flush waits for it]",
    ],
    "blind-upsert": [
        "test_fill.py::test_a_fill_does_not_undo_a_flush",
        "test_fill.py::test_a_flush_does_not_undo_a_fill",
    ],
    "unsorted-advance": ["test_key_order.py::test_advances"],
    "unsorted-recompute": ["test_key_order.py::test_recomputes"],
    "unsorted-fill": ["test_key_order.py::test_a_fill"],
    "kinds-apart": ["test_key_order.py::test_advances_and_recomputes[20]"],
    "no-look": ["test_fill.py::test_a_run_goes_while_a_fill_writes_it[deleted]"],
    "look-over-written": ["test_fill.py::test_a_fill_is_killed_before_its_look[deleted]"],
    "not-locked-first": ["test_compare.py::test_a_truncate_while_tables_are_compared"],
    "no-old-workspace": [
        f"{MOVES}[decided-while the shard it left is flushed]",
        f"{MOVES}[decided-while the shard it came to is flushed]",
    ],
    "truncate-trusts-snapshot": [TRUNCATED],
    "log-not-asked": [f"{HOST_WRITES}[is not there]", f"{HOST_WRITES}[lacks a column]"],
    "counted-keys": ["test_capture.py::test_a_change_that_was_restored_does_not_collide"],
    "uncaptured bots_savedrun INSERT": ["test_capture.py::test_a_run_is_inserted"],
    "uncaptured bots_savedrun UPDATE": ["test_capture.py::test_a_run_is_updated"],
    "uncaptured bots_savedrun DELETE": ["test_capture.py::test_a_run_is_deleted"],
    "uncaptured bots_savedrun TRUNCATE": ["test_capture.py::test_runs_are_truncated"],
    "uncaptured bots_publishedrunversion INSERT": ["test_capture.py::test_a_hop_is_inserted"],
    "uncaptured bots_publishedrunversion UPDATE": ["test_capture.py::test_a_hop_is_updated"],
    "uncaptured bots_publishedrunversion DELETE": ["test_capture.py::test_a_hop_is_deleted"],
    "uncaptured bots_publishedrunversion TRUNCATE": ["test_capture.py::test_hops_are_truncated"],
}
"""Mutation -> tests that notice it, as pytest names them, below this directory. The host is the first one."""


def noticed(names: Iterable[str] = KILLERS, *, environment: Mapping[str, str]) -> dict[str, set[str]]:
    """Mutation -> those of its tests that fail under it, from one process for all of them.

    A test fails by an assertion or an error of its own, not by one of its fixtures.
    """
    chosen = list(names)
    files = sorted({str(HERE / test.partition("::")[0]) for name in chosen for test in KILLERS[name]})
    found: dict[str, set[str]] = {mutation: set() for mutation in chosen}
    for name in _failing(files, {**environment, VARIABLE: "\n".join(chosen)}):
        base, bracket, parameters = name.partition("[")
        test, _, mutation = base.partition(UNDER)
        found[mutation].add(f"{test}{bracket}{parameters}")
    return found


def _failing(files: Sequence[str], environment: Mapping[str, str]) -> set[str]:
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *files, *OPTIONS, f"--junitxml={report.name}"],
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.hosts.platform.settings", **environment},
            cwd=HERE.parent.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=WITHIN_S,
        )
        if done.returncode not in {0, 1}:
            raise RuntimeError(f"pytest exited {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return set(_failed(ElementTree.parse(report.name).iter("testcase")))


def _failed(cases: Iterable[ElementTree.Element]) -> Iterator[str]:
    for case in cases:
        if case.find("failure") is not None:
            module = case.get("classname", "").partition("tests.concurrency.")[2].replace(".", "/")
            yield f"{module}.py::{case.get('name')}"


def under(test: str, mutation: str) -> str:
    """The name of a test's copy that runs under a mutation."""
    return f"{test}{UNDER}{mutation}"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.concurrency.mutations", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="all by default")
    names = parser.parse_args(argv).names or list(KILLERS)
    by = noticed(names, environment={})
    survivors = 0
    print("| mutation | noticed by |\n|---|---|", flush=True)  # noqa: T201
    for name in names:
        survivors += by[name] != set(KILLERS[name])
        tests = "<br>".join(
            f"`{test}`" if test in by[name] else f"**not by** `{test}`" for test in sorted(KILLERS[name])
        )
        print(f"| `{name}` | {tests} |", flush=True)  # noqa: T201
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
