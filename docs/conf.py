"""Sphinx's configuration; ``make docs`` builds the site into ``build/docs``.

What can be read from the code is: ``docs.directives`` fills the reference's pages and draws the diagrams when the site
is built. Nothing generated is checked in, and the site loads nothing from anywhere else.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["DJANGO_SETTINGS_MODULE"] = "demo.settings"

import django

from workflows_tasks import __version__

django.setup()
logging.getLogger("grimp").setLevel(logging.WARNING)

project = "django-recent-workflows"
project_copyright = "its contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "celery.contrib.sphinx", "docs.directives"]
exclude_patterns = ["directives"]
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|datetime|enum|django|celery|kombu|opentelemetry|prometheus_client)\..*"),
    (r"py:.*", r".*\.M"),
    # Rows that are handed out, not made.
    (r"py:.*", r"backfill\.(models|planner|progress|ranges|states)\..*"),
    (r"py:.*", r"(workflows_tasks|Range|Sql|Backfill|Progress|Plan|Host|Field|RawQuerySet|dict\[str)\b.*"),
    (r"py:exc", r"TransitionRefused"),
]

myst_enable_extensions = ["deflist", "attrs_inline", "attrs_block"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_use_legacy_class_based = True  # as celery.contrib.sphinx needs
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"Recent workflows {release}"
html_copy_source = False
