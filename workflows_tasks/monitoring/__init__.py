"""Watching the pipeline: log and metrics, its state, its health, and the indexes that it needs."""
