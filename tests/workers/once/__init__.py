"""Crashes and outages of real processes: the same whatever the host, and slow, so with the first host only."""
