from __future__ import annotations

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import path

from demo.home import views

urlpatterns = [
    path("", views.start, name="start"),
    path("workspaces/<int:workspace>/", views.home, name="home"),
    path("workspaces/<int:workspace>/live/", views.live, name="live"),
    path("runs/<int:run>/", views.run, name="run"),
    path("photos/<int:workflow>.svg", views.photo, name="photo"),
    path("admin/", admin.site.urls),
    # A demo has no web server in front that would do it; here what is served passes the middleware that compresses.
    path("static/<path:path>", serve, {"insecure": True}),
]
