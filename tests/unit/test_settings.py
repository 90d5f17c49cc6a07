"""``Settings``: the typed form of ``RECENT_WORKFLOWS``."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import pytest
from django.db.models import Q

from tests.conftest import Configure
from workflows_tasks import conf
from workflows_tasks.errors import ConfigurationError, RecentWorkflowsError

pytestmark = pytest.mark.host_independent

LEAST: dict[str, Any] = {
    "RUN_MODEL": "bots.SavedRun",
    "WORKSPACE_FIELD": "workspace",
    "USER_FIELD": "uid",
    "PUBLISHED_RUN_PATH": "parent_version__published_run",
    "USED_AT_FIELD": "updated_at",
}


def test_what_is_required_is_enough() -> None:
    settings = conf.Settings.from_mapping(LEAST)
    assert (settings.run_model, settings.run_filter) == ("bots.SavedRun", Q())
    assert (settings.shards, settings.flush_window_s, settings.queue) == (8, 1.0, "recent-workflows")
    assert (settings.redis_url, settings.grains) == ("", ("workspace", "user"))


@pytest.mark.parametrize("key", LEAST)
def test_each_required_key_is_required(key: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{key}.*missing"):
        conf.Settings.from_mapping({name: value for name, value in LEAST.items() if name != key})


def test_an_int_will_do_for_a_float() -> None:
    window_s = conf.Settings.from_mapping({**LEAST, "FLUSH_WINDOW_S": 2}).flush_window_s
    assert isinstance(window_s, float)
    assert window_s == 2.0


def test_the_defaults_agree_with_the_rules_between_them() -> None:
    defaults = {f.name.upper(): f.default for f in dataclasses.fields(conf.Settings) if f.name.upper() not in LEAST}
    conf.Settings.from_mapping({**LEAST, **defaults})


def test_every_setting_has_a_type_and_says_its_unit() -> None:
    durations = [name for name, kind in get_type_hints(conf.Settings).items() if kind is float]
    assert durations
    assert all(name.endswith("_s") for name in durations)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        conf.settings().shards = 3  # type: ignore[misc]


def test_an_override_is_seen_at_once(configure: Configure) -> None:
    configure(SHARDS=3)
    assert conf.settings().shards == 3
    configure(SHARDS=4)
    assert conf.settings().shards == 4


def test_an_error_names_the_fix_and_its_check() -> None:
    with pytest.raises(RecentWorkflowsError) as error:
        conf.Settings.from_mapping({**LEAST, "SHARDS": 0})
    assert isinstance(error.value, ConfigurationError)
    assert str(error.value) == f"{error.value.msg} {error.value.hint} ({error.value.id})"
