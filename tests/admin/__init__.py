"""Django's admin, with every host's models."""
