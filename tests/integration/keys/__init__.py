"""Hosts whose keys, types, names and sessions are of any kind: each a throw-away project in a process of its own."""
