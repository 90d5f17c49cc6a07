from django.apps import AppConfig


class SoftlyConfig(AppConfig):
    name = "tests.exactness.softly"
    label = "softly"
