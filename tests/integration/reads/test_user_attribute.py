"""A user is what the host calls a user, where ``USER_FIELD`` is a column that holds its key."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils.functional import SimpleLazyObject

from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.oracle import flush_all
from workflows_tasks import recent_workflows
from workflows_tasks.errors import InvalidArgument

pytestmark = pytest.mark.host_independent


@pytest.fixture
def ann(live: Host) -> User:
    made: User = User.objects.create(username="ann", email="Ann@example.org")
    return made


def runs_of(live: Host, uid: str) -> Any:
    """A workspace with one run of this user."""
    workspace = live.make_workspace()
    live.make_run(workspace=workspace, workflow=live.make_workflow(), user=uid)
    flush_all()
    return workspace


@pytest.mark.parametrize(("attribute", "uid"), [("username", "ann"), ("email", "Ann@example.org")])
def test_an_instance_by_the_attribute_that_the_setting_names(
    live: Host, ann: User, configure: Configure, attribute: str, uid: str
) -> None:
    configure(USER_ATTRIBUTE=attribute)
    workspace = runs_of(live, uid)
    for fresh in (False, True):
        for user in (ann, SimpleLazyObject(lambda: ann), uid):
            assert len(list(recent_workflows(workspace, user, fresh=fresh))) == 1


def test_by_its_primary_key_unless_told_otherwise(live: Host, ann: User) -> None:
    assert len(recent_workflows(runs_of(live, str(ann.pk)), ann)) == 1


def test_an_attribute_that_an_instance_has_not(live: Host, ann: User, configure: Configure) -> None:
    configure(USER_ATTRIBUTE="uid")
    with pytest.raises(InvalidArgument, match=r"user is a User, which has no attribute 'uid'; .*\['USER_ATTRIBUTE'\]"):
        recent_workflows(live.make_workspace(), ann)


@pytest.mark.parametrize("attribute", ["pk", "first_name"])
def test_an_instance_without_a_key_names_nobody(live: Host, configure: Configure, attribute: str) -> None:
    configure(USER_ATTRIBUTE=attribute)
    with pytest.raises(InvalidArgument, match="names nobody; pass None for the whole workspace"):
        recent_workflows(live.make_workspace(), User())
