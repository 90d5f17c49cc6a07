"""The platform's models in its admin."""

from __future__ import annotations

from django.contrib import admin

from demo.bots.models import PublishedRun, SavedRun, Workspace

admin.site.site_header = "The demo platform"


@admin.register(SavedRun)
class SavedRunAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's own class takes no parameter
    list_display = ("pk", "workspace_id", "uid", "surface", "updated_at")
    raw_id_fields = ("workspace", "parent_version")
    show_full_result_count = False


admin.site.register([Workspace, PublishedRun])
