"""The home page, as visitors see it: it follows what happens, and nobody is barred from it."""

from __future__ import annotations

import pytest
from django.apps import apps

from tests.browser.conftest import Visit
from tests.browser.platform import TITLES, Platform
from tests.hosts.adapter import Host
from tests.oracle import flush_all

pytestmark = pytest.mark.host_independent

LAST_FOUR = TITLES[:-5:-1]


@pytest.fixture
def platform(live: Host) -> Platform:
    return Platform()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_state_of_the_page_bars_anybody(
    scheme: str, platform: Platform, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = visit(platform.home, color_scheme=scheme)
    visitor.sees("No workflow used yet")
    visitor.bars_nobody(f"empty-{scheme}")
    platform.run_all()
    visitor.sees_cards(*LAST_FOUR)
    visitor.bars_nobody(f"home-{scheme}")
    monkeypatch.setattr("demo.views.LATE_S", 0.0)
    platform.run("Rank menus")
    visitor.sees("are behind")
    visitor.bars_nobody(f"late-{scheme}")


def test_the_page_follows_a_flush_and_a_users_own_waits_for_none(platform: Platform, visit: Visit) -> None:
    platform.run_all()
    everybody, ada = visit(platform.home), visit(f"{platform.home}&user=ada-1")
    platform.run("Rank menus")
    ada.sees_cards("Rank menus", *LAST_FOUR[:3])
    everybody.sees_cards(*LAST_FOUR)
    flush_all()
    everybody.sees_cards("Rank menus", *LAST_FOUR[:3])
    ada.page.get_by_role("button", name=f"Run again: {LAST_FOUR[1]}").click()
    ada.sees_cards(LAST_FOUR[1], "Rank menus", LAST_FOUR[0], LAST_FOUR[2])


@pytest.fixture
def push(pushing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda name: name == "demo.push")


def test_a_flush_tells_an_open_page_that_polls_nothing(push: None, platform: Platform, visit: Visit) -> None:
    platform.run_all()
    visitor = visit(platform.home)
    visitor.page.evaluate("poll = () => 0; for (let timer = 0; timer < 100; timer++) clearTimeout(timer)")
    visitor.page.wait_for_function("shown")  # after the event that each page gets at once
    for title in ("Rank menus", "Tag tenders"):
        platform.run(title)
        flush_all()
        visitor.sees(title)
    visitor.sees_cards("Tag tenders", "Rank menus", *LAST_FOUR[:2])


def test_nothing_moves_for_somebody_who_is_at_it_or_does_not_want_it(platform: Platform, visit: Visit) -> None:
    platform.run_all()
    visitor = visit(platform.home)
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    updates = visitor.page.get_by_label("Update this page by itself")
    for hold, let_go in (
        (updates.uncheck, updates.check),
        (visitor.page.locator(".cards button").first.focus, updates.focus),
    ):
        hold()
        visitor.page.wait_for_load_state("networkidle")
        asked.clear()
        visitor.page.evaluate("update()")
        assert asked == []
        with visitor.page.expect_response("**/live/**"):
            let_go()


def test_a_server_that_does_not_answer_is_said_and_asked_again(platform: Platform, visit: Visit) -> None:
    platform.run_all()
    visitor = visit(platform.home)
    visitor.page.route("**/live/**", lambda route: route.abort())
    visitor.sees("This page is not updated at the moment")
    visitor.page.unroute("**/live/**")
    visitor.page.get_by_text("This page is not updated").wait_for(state="detached")
    visitor.errors.clear()  # a browser logs a failed request as an error


def test_it_works_with_the_keyboard_and_without_scripts(platform: Platform, visit: Visit) -> None:
    platform.run_all()
    platform.run("Rank menus", by="alan-1")
    flush_all()
    visitor = visit(platform.home, java_script_enabled=False)
    used_by = visitor.page.get_by_label("Used by")
    used_by.select_option("alan-1")
    used_by.focus()
    visitor.page.keyboard.press("Tab")
    visitor.page.keyboard.press("Enter")
    visitor.sees("as alan-1 sees it")
    visitor.sees_cards("Rank menus")
