"""The demo's own models, under the tests' settings."""
