"""The demo: its page, its oracle, and itself as a stranger runs it."""
