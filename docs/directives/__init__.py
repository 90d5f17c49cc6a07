"""Directives that fill pages from the code: ``{settings}``, ``{metrics}``, ``{commands}``, ``{states}``, diagrams."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from docs.directives import commands, diagrams, metrics, mutations, settings, states


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    for name, directive in (
        ("settings", settings.SettingsReference),
        ("metrics", metrics.MetricsReference),
        ("commands", commands.CommandsReference),
        ("diagram", diagrams.Diagram),
        ("mutations", mutations.MutationsReference),
        ("states", states.StatesReference),
    ):
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
