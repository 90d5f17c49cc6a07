"""People who log in to the admin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from tests.hosts.adapter import Host

LogIn = Callable[..., Client]


@pytest.fixture
def log_in(live: Host) -> LogIn:
    """``log_in("view", "change")``: a client of somebody on the staff with these permissions on recent workflows, or
    on another model; ``staff-0`` is the first of them."""

    def logged_in(*may: str, of: str = "workspacerecentworkflow") -> Client:
        user = User.objects.create_user(f"staff-{User.objects.filter(is_staff=True).count()}", is_staff=True)
        names = [f"{each}_{of}" for each in may]
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
        client = Client()
        client.force_login(user)
        return client

    return logged_in


@pytest.fixture
def page() -> str:
    """Address of the list."""
    return reverse("admin:workflows_tasks_workspacerecentworkflow_changelist")


def told(response: Any) -> list[str]:
    """The messages on a page."""
    return [str(message) for message in response.context["messages"]]


def listed(response: Any) -> list[Any]:
    """Keys of the rows on a page."""
    return [row.pk for row in response.context["cl"].result_list]
