"""The home page and the admin, in a real browser."""
