from django.apps import AppConfig


class LibraryConfig(AppConfig):
    name = "tests.hosts.library"
    label = "library"
