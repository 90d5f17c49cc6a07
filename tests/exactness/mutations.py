"""Which tests fail when a mechanism is taken out: ``python -m tests.exactness.mutations [NAME ...]`` prints the table.

Each mutation of ``mutants`` runs in processes of its own. A test kills it if it passes as the package is and fails
under the mutation. ``KILLERS`` names, for each, tests that must: ``once/test_mutations.py`` holds them to it.
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
VARIABLE: Final = "EXACTNESS_MUTATION"
"""Environment variable: the mutation under which all of these tests run; ``each`` runs its killers under each."""

WITHIN_S: Final = 900
EACH: Final = "each"
UNDER: Final = " under "
QUIETLY: Final = ["-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:randomly"]
NEVER: Final = ["once/test_mutations.py", "once/test_stress.py"]
"""What makes no sense under a mutation, or finds it only sometimes."""

CE1: Final = "test_lowering.py::test_ce1_a_run_arrives_while_the_next_newest_is_looked_for"
CE3: Final = "test_raising.py::test_ce3_the_run_goes_and_its_flush_is_of_another_shard"
CE6: Final = "test_lowering.py::test_ce6_the_runner_up_goes_while_it_is_about_to_be_written"
CE7: Final = "test_filling.py::test_ce7_a_run_is_deleted_that_a_fill_is_about_to_write"
FILLED: Final = "test_lowering.py::test_a_fill_raises_the_row_that_is_about_to_be_written"
MOVED: Final = "test_raising.py::test_the_run_moves_to_a_workspace_of_another_shard"
IN_KEY_ORDER: Final = [
    "test_filling.py::test_a_fill_locks_rows_in_key_order",
    "test_raising.py::test_a_flush_locks_rows_in_key_order",
]

KILLERS: Final[dict[str, list[str]]] = {
    "no-lock": [f"{CE1}[set back-late commit]", f"{CE1}[removed-un-hidden]"],
    "merged-lock": [f"{CE1}[set back-late commit]", f"{CE1}[removed-un-hidden]"],
    "no-look": ["test_raising.py::test_ce3_the_run_is_deleted_and_its_flush_is_of_the_same_shard"],
    "no-verify": [MOVED, f"{CE3}[deleted-set back]", f"{CE6}[moved]"],
    "no-verify-after-raising": [MOVED, f"{CE3}[deleted-set back]"],
    "no-verify-after-lowering": [f"{CE6}[deleted]", f"{CE6}[hidden]", f"{CE6}[moved]"],
    "no-fill-verify": [f"{CE7}[set back]", f"{CE7}[removed]"],
    "no-conditional-lower": [
        f"{FILLED}[set back]",
        f"{FILLED}[removed]",
    ],
    "blind-upsert": [
        "test_filling.py::test_a_fill_does_not_undo_a_flush",
        "test_filling.py::test_a_flush_does_not_undo_a_fill",
    ],
    "no-handing-on": ["test_leaving.py::test_exact_after[a run moves to a workspace of another shard]"],
    "no-read-committed": [
        "test_isolation.py::test_ce1_with_one_snapshot_for_a_whole_transaction[repeatable read-set back]",
        "test_isolation.py::test_ce1_with_one_snapshot_for_a_whole_transaction[in settings-removed]",
    ],
    "acknowledge-first": ["test_claims.py::test_a_claim_outlives_its_flush"],
    "plain-rename-claim": ["test_claims.py::test_the_next_claim_does_not_overwrite_it"],
    "no-extending": [
        "test_claims.py::test_a_row_set_back_by_a_flush_that_dies_before_its_look[moved]",
        "test_claims.py::test_a_flush_that_has_lost_its_claim_raises_nothing_either",
    ],
    "forget-later-batches": ["test_claims.py::test_a_claim_keeps_what_its_later_batches_are_about"],
    "no-version-lock": ["test_leaving.py::test_a_version_is_led_on_twice_at_once"],
    "unsorted-keys": IN_KEY_ORDER,
    "keys-in-plan-order": IN_KEY_ORDER,
    "unsorted-lowering": ["test_lowering.py::test_rows_are_set_back_in_key_order"],
    "no-tie-break": ["test_times.py::test_a_tie_goes_to_the_higher_key_and_back[False]"],
    "no-horizon": [
        "test_watermark.py::test_a_transaction_that_is_open_across_sweeps",
        "test_watermark.py::test_a_prepared_transaction",
        "test_watermark.py::test_a_transaction_that_was_open_for_long_before_it_was_prepared",
        "test_watermark.py::test_a_transaction_of_another_role",
    ],
    "no-inbox-check": ["test_verify.py::test_what_is_on_its_way_is_no_drift"],
    "one-look-of-verify": [
        "test_verify.py::test_a_save_between_its_commit_and_its_announcement_is_no_drift",
        "test_verify.py::test_a_run_that_is_saved_again_while_it_is_looked_at_is_no_drift",
    ],
    "forgetful-audit": ["test_audit.py::test_it_goes_on_where_it_was_after_a_restart"],
    "silent-deletes": ["test_leaving.py::test_exact_after[a run is deleted]"],
}
"""Mutation -> tests that kill it, as pytest names them, below this directory."""


def failing(under: str | None, tests: Sequence[str] = (), *, environment: Mapping[str, str]) -> set[str]:
    """Run tests, all by default, in another process under a mutation, and return those that fail.

    A test fails by an assertion or an error of its own, not by one of its fixtures.
    """
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        chosen = [str(HERE / test) for test in tests] or [str(HERE), *(f"--ignore={HERE / each}" for each in NEVER)]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *chosen, *QUIETLY, f"--junitxml={report.name}"],
            env={**os.environ, **environment, VARIABLE: under or ""},
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
            module = case.get("classname", "").partition("tests.exactness.")[2].replace(".", "/")
            yield f"{module}.py::{case.get('name')}"


def killed() -> dict[str, set[str]]:
    """Mutation -> the tests of ``KILLERS`` that fail under it, from one process for all of them."""
    servers = {f"TEST_{name}": os.environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
    killers = sorted({test for tests in KILLERS.values() for test in tests})
    found: dict[str, set[str]] = {mutation: set() for mutation in KILLERS}
    for name in failing(EACH, killers, environment=servers):
        base, bracket, parameters = name.partition("[")
        test, _, mutation = base.partition(UNDER)
        found[mutation].add(f"{test}{bracket}{parameters}")
    return found


def under(test: str, mutation: str) -> str:
    """The name of a test's copy that runs under a mutation."""
    return f"{test}{UNDER}{mutation}"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.exactness.mutations", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*KILLERS, []], metavar="NAME", help="all by default")
    names = parser.parse_args(argv).names or list(KILLERS)

    from demo.servers import servers

    with tempfile.TemporaryDirectory(prefix="exactness-mutations-") as directory:
        Path(directory).chmod(0o755)  # as root PostgreSQL runs as somebody else, who must reach its files
        with servers(Path(directory)) as started:
            return _print_table(names, {f"TEST_{name}": started[name] for name in ("DATABASE_URL", "REDIS_URL")})


def _print_table(names: Sequence[str], environment: Mapping[str, str]) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.hosts.platform.settings")
    import django

    django.setup()
    from tests.exactness.mutants import MUTANTS

    before = failing(None, environment=environment)
    survivors = 0
    print("| mutation | what is taken out | killed by |\n|---|---|---|", flush=True)  # noqa: T201
    for name in names:
        killed_by = sorted(failing(name, environment=environment) - before)
        survivors += not killed_by
        tests = "<br>".join(f"`{test}`" for test in killed_by) or "**nothing**"
        print(f"| `{name}` | {MUTANTS[name].takes_out} | {len(killed_by)}: {tests} |", flush=True)  # noqa: T201
    if before:
        print(f"\nFailing without any mutation: {sorted(before)}", flush=True)  # noqa: T201
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
