"""A lending library: other names, other keys, one hop, nothing nullable."""
