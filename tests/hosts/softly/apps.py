from django.apps import AppConfig


class SoftlyConfig(AppConfig):
    name = "tests.hosts.softly"
    label = "softly"
