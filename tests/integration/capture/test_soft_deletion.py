"""A library that deletes softly: it hides by an UPDATE, and nulls foreign keys after its signal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import hosts
from tests.commands import ROOT
from tests.integration.capture.sample import Sample

SOFTLY = pytest.mark.where_allowed("soft deletion")

WHAT: dict[str, Callable[[Sample], Any]] = {
    "a run": lambda sample: sample.newest,
    "a workspace": lambda sample: sample.workspace,
    "a workflow": lambda sample: sample.workflow,
    "a version": lambda sample: sample.newest.edition,
}


@pytest.mark.host_independent
@pytest.mark.timeout(180)
def test_a_host_that_deletes_softly() -> None:
    """This file, with that host's settings."""
    servers = {f"TEST_{name}": os.environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(Path(__file__)), "-q", "-p", "no:cacheprovider"],
        env={**os.environ, **servers, "DJANGO_SETTINGS_MODULE": hosts.settings_module("softly")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8_000:]
    assert f"{2 * len(WHAT) + 1} passed" in done.stdout


@SOFTLY
@pytest.mark.parametrize("what", WHAT)
def test_hidden_and_shown_again(sample: Sample, what: str) -> None:
    thing = WHAT[what](sample)
    with sample.written():
        thing.delete()
    assert type(thing).all_objects.filter(pk=thing.pk).exists()
    if what != "a workflow":  # hiding it hides its versions, and takes these from their runs for good
        with sample.written():
            thing.undelete()


@SOFTLY
@pytest.mark.parametrize("what", WHAT)
def test_deleted_for_good(sample: Sample, what: str) -> None:
    from safedelete import HARD_DELETE

    with sample.written():
        WHAT[what](sample).delete(force_policy=HARD_DELETE)


@SOFTLY
def test_querysets(sample: Sample) -> None:
    with sample.written():
        sample.host.run_model.objects.filter(pk__in=[sample.newest.pk, sample.other.pk]).delete()
    with sample.written():
        sample.host.workspace_model.objects.all().delete()
    with sample.written():
        sample.host.workspace_model.deleted_objects.all().undelete()
