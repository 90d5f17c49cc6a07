"""The tests. ``python -m tests`` runs them against each host project in turn; see ``tests.hosts``."""
