"""The documentation, as pages for people and the directives that fill them from the code."""
