"""What the page looks like in each of its states, and how it is used without a mouse or without sight."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.conftest import Visit
from tests.browser.stage import Stage
from tests.browser.visitor import DARK, DESKTOP, LIGHT, PHONE, Visitor
from tests.conftest import Configure
from tests.hosts.adapter import Host
from workflows_tasks import inbox, projection

TITLES = (
    "Rank menus", "Tag tenders", "Draft recipes", "Compare maps", "Redact letters", "Translate contracts",
    "Summarise meeting notes", "Classify support tickets", "Transcribe voice messages", "Review grant proposals",
    "Forecast stock lists", "Caption training videos", "Moderate social posts", "Extract shipping labels",
    "Illustrate lesson plans", "Fact-check press releases", "Schedule event listings", "Enrich product pages",
    "Clean up survey answers", "Reply to customer reviews", "A workflow whose title is far too long for its place",
)  # fmt: skip

MOST_BYTES = 50_000


@pytest.fixture
def used(stage: Stage) -> Stage:
    """More workflows than the page has places, used by two people."""
    for position, title in enumerate(TITLES):
        stage.run(stage.workflow(title), by=("ada-1", "alan-1")[position % 2])
    projection.fill()
    return stage


def _late(stage: Stage, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.home.condition.LATE_S", 0.0)
    inbox.add({"1": 0})


def _unknown(stage: Stage, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(REDIS_URL="redis://127.0.0.1:1/0")


def _no_history(stage: Stage, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.backfill.delete()


def _as_it_is(stage: Stage, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing happens."""


STATES = {
    "live": (_as_it_is, "Live"),
    "late": (_late, "more than 10 seconds behind"),
    "unknown": (_unknown, "cannot be updated at the moment"),
    "filling": (_no_history, "Older workflows are not all in yet"),
}

Happen = Callable[[Stage, Configure, pytest.MonkeyPatch], None]


@pytest.mark.parametrize("dark", [False, True], ids=[LIGHT, DARK])
@pytest.mark.parametrize("state", STATES)
def test_no_state_of_the_page_bars_anybody(
    state: str, dark: bool, used: Stage, visit: Visit, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen, says = STATES[state]
    happen(used, configure, monkeypatch)
    _is_fine(visit(used.home, dark=dark), says, state)


@pytest.mark.parametrize("dark", [False, True], ids=[LIGHT, DARK])
def test_neither_does_an_empty_page_or_a_run(stage: Stage, visit: Visit, dark: bool) -> None:
    visitor = visit(stage.home, dark=dark)
    _is_fine(visitor, "No workflow used yet", "empty")
    visitor.go(f"/runs/{stage.run(stage.workflow('Rank menus')).pk}/")
    _is_fine(visitor, "3 of 20", "run")


@pytest.mark.parametrize("dark", [False, True], ids=[LIGHT, DARK])
def test_nor_does_a_platform_without_workspaces(live: Host, visit: Visit, dark: bool) -> None:
    _is_fine(visit("/", dark=dark), "No workspace yet", "nothing")


def _is_fine(visitor: Visitor, says: str, name: str) -> None:
    visitor.sees(says)
    for width in (PHONE, DESKTOP):
        visitor.resize(width)
        visitor.picture(name)
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width
    assert visitor.violations() == []


def test_the_page_is_light_and_nothing_in_it_jumps(used: Stage, visit: Visit) -> None:
    visitor = visit(used.home)
    visitor.sees("Live")
    transferred = {url: size for url, size in visitor.transferred.items() if not url.endswith("/live/")}
    assert len([url for url in transferred if "/photos/" in url]) == 2
    assert sum(transferred.values()) < MOST_BYTES, transferred
    assert visitor.layout_shift < 0.01


def test_the_keyboard_reaches_everything_in_the_order_in_which_it_is_read(used: Stage, visit: Visit) -> None:
    visitor = visit(used.home)
    visitor.sees("Live")
    order = [_focused_by_tab(visitor) for _ in range(8)]
    assert order[:6] == ["Skip to content", "Workflows", "workspace", "user", "Show", "Pause"]
    assert [text.splitlines()[-2] for text in order[6:]] == [TITLES[-1], TITLES[-2]]
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_url("**/runs/*/")
    visitor.sees("3 of 20")


def _focused_by_tab(visitor: Visitor) -> str:
    visitor.page.keyboard.press("Tab")
    return str(
        visitor.page.evaluate(
            "(e => e.tagName === 'SELECT' ? e.id : e.innerText.trim().replace(/^.*\\n(?=Used|$)/, ''))"
            "(document.activeElement)"
        )
    )


def test_what_a_screen_reader_hears(used: Stage, visit: Visit) -> None:
    visitor = visit(used.home)
    for role, name in (
        ("banner", None), ("main", None), ("form", "What to show"), ("region", "Recent workflows"),
        ("navigation", "Used last"), ("complementary", "The pipeline at work only in this demo"),
    ):  # fmt: skip
        visitor.page.get_by_role(role, name=name).wait_for()  # type: ignore[arg-type]
    assert visitor.page.locator("#spoken").inner_text() == ""
    used.run(used.workflow("Tag tenders again"))
    projection.fill()
    visitor.page.get_by_text("Used last: Tag tenders again").wait_for(state="attached")


def test_the_switcher_shows_somebody_elses_without_a_reload(used: Stage, visit: Visit) -> None:
    visitor = visit(used.home)
    visitor.page.evaluate("window.same = true")
    visitor.page.get_by_label("Used by").select_option("ada-1")
    visitor.page.get_by_role("button", name="Show").click()
    visitor.sees("Used last by ada-1")
    visitor.sees_cards(*TITLES[-1:-9:-2])
    assert visitor.page.url.endswith(f"{used.home}?user=ada-1")
    assert visitor.page.title() == "Alder Labs, ada-1 – recent workflows"
    assert visitor.page.evaluate("window.same && document.activeElement.id") == "show"
    used.run(used.workflow("Of Ada"))  # what is shown now is what is kept up to date
    used.run(used.workflow("Of Alan"), by="alan-1")
    projection.fill()
    visitor.sees_cards("Of Ada", *TITLES[-1:-7:-2])
    visitor.page.go_back()
    visitor.sees("Used last by everybody")
    visitor.sees_cards("Of Alan", "Of Ada", *TITLES[-1:-3:-1])


def test_paused_it_stays_as_it_is(used: Stage, visit: Visit) -> None:
    visitor = visit(used.home)
    visitor.page.get_by_role("button", name="Pause updates").click()
    visitor.sees("Paused")
    used.run(used.workflow("Of Ada"))
    projection.fill()
    visitor.page.evaluate("fetch('/photos/1.svg').then(() => htmx.trigger('#live', 'every'))")
    visitor.page.evaluate("fetch('/photos/2.svg')")
    asked = [url.rpartition("/")[2] for url in visitor.asked]
    assert asked[asked.index("1.svg") :] == ["1.svg", "2.svg"]
    assert visitor.cards()[0] == TITLES[-1]
    visitor.page.get_by_role("button", name="Pause updates").click()
    visitor.sees_cards("Of Ada", *TITLES[-1:-4:-1])
    visitor.sees("Live")


def test_a_server_that_does_not_answer_is_said_and_asked_again(used: Stage, visit: Visit) -> None:
    visitor = visit(used.home)
    visitor.sees("Live")
    visitor.page.route("**/live/", lambda route: route.abort())
    visitor.sees("This page is not updated at the moment")
    visitor.page.unroute("**/live/")
    visitor.page.get_by_text("This page is not updated").wait_for(state="detached")
    visitor.errors.clear()  # a browser logs a failed request as an error


def test_it_works_without_scripts(used: Stage, visit: Visit) -> None:
    visitor = visit(used.home, scripts=False)
    visitor.sees_cards(*TITLES[-1:-5:-1])
    visitor.page.get_by_label("Used by").select_option("alan-1")
    visitor.page.get_by_role("button", name="Show").click()
    visitor.sees("Used last by alan-1")
    visitor.sees_cards(*TITLES[-2:-10:-2])
