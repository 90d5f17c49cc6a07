from __future__ import annotations

from django.contrib import admin
from django.urls import path

from demo.home import views

urlpatterns = [
    path("", views.start, name="start"),
    path("workspaces/<int:workspace>/", views.home, name="home"),
    path("workspaces/<int:workspace>/live/", views.live, name="live"),
    path("runs/<int:run>/", views.run, name="run"),
    path("admin/", admin.site.urls),
]
