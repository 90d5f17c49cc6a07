from __future__ import annotations

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import path

from demo import views

urlpatterns = [
    path("", views.home, name="home"),
    path("live/", views.live, name="live"),
    path("changes/", views.changes, name="changes"),
    path("admin/", admin.site.urls),
    path("static/<path:path>", serve, {"insecure": True}),  # no web server in front does it
]
