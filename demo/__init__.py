"""A small host project: models shaped like a workflow platform's, a home page, a load, and embedded servers."""
