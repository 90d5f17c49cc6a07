from django.apps import AppConfig


class BotsConfig(AppConfig):
    name = "demo.bots"
    label = "bots"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        import celeryconfig  # noqa: F401  # this host's Celery app, through which saves send their messages
