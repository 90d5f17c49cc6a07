"""The home page, in a browser."""
