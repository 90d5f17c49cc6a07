"""Names: a platform of people, companies and workflows looks like one, also in a demo."""

from __future__ import annotations

from typing import Final

_VERBS: Final = (
    "Summarise", "Translate", "Classify", "Draft", "Transcribe", "Compare", "Extract", "Review", "Schedule", "Enrich",
    "Rank", "Caption", "Moderate", "Forecast", "Clean up", "Reply to", "Tag", "Redact", "Illustrate", "Fact-check",
)  # fmt: skip
_OBJECTS: Final = (
    "meeting notes", "support tickets", "invoices", "product pages", "job applications", "sales calls", "contracts",
    "customer reviews", "lab reports", "news articles", "blog posts", "survey answers", "field photos", "tenders",
    "release notes", "lesson plans", "medical letters", "podcast episodes", "press releases", "bug reports",
    "recipes", "travel plans", "court rulings", "grant proposals", "stock lists", "weather alerts", "menus",
    "social posts", "research papers", "voice messages", "insurance claims", "floor plans", "training videos",
    "event listings", "shipping labels", "patents", "exam papers", "donor letters", "audit trails", "museum labels",
)  # fmt: skip
_PEOPLE: Final = (
    "ada", "alan", "annie", "barbara", "claude", "donald", "dorothy", "edsger", "emmy", "fatima", "frances", "grace",
    "hedy", "ivan", "jean", "joan", "john", "katherine", "ken", "leslie", "lynn", "margaret", "mary", "niklaus",
    "radia", "rosalind", "sophie", "tim", "wang", "yukihiro",
)  # fmt: skip
_COMPANIES: Final = (
    "Alder", "Basalt", "Cedar", "Delta", "Ember", "Fjord", "Granite", "Harbour", "Indigo", "Juniper", "Kestrel",
    "Lumen", "Meadow", "Northern", "Opal", "Prairie", "Quartz", "River", "Summit", "Tundra", "Umber", "Violet",
    "Willow", "Yarrow", "Zephyr",
)  # fmt: skip
_TRADES: Final = ("Labs", "Press", "Health", "Logistics", "Studio", "School", "Legal", "Foods", "Energy", "Museum")

_STRIDE: Final = 317
"""Coprime to the number of titles: neighbours in the list have neither verb nor object in common."""


def titles() -> list[str]:
    """Every workflow's title, all different."""
    every = [f"{verb} {thing}" for thing in _OBJECTS for verb in _VERBS]
    return [every[position * _STRIDE % len(every)] for position in range(len(every))]


def users(count: int) -> list[str]:
    """Users as an identity provider names them."""
    return [f"{_PEOPLE[position % len(_PEOPLE)]}-{position // len(_PEOPLE) + 1}" for position in range(count)]


def company(position: int) -> str:
    """A workspace's name; some share one."""
    trade = _TRADES[(position * 3 + position // len(_COMPANIES)) % len(_TRADES)]
    return f"{_COMPANIES[position % len(_COMPANIES)]} {trade}"
