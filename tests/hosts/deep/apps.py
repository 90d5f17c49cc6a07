from django.apps import AppConfig


class WorkshopConfig(AppConfig):
    name = "tests.hosts.deep"
    label = "workshop"  # sorts after the package, so its migrations are not all applied first by chance
