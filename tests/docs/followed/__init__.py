"""Each runs once, with the first host: nothing here depends on the host under test."""
