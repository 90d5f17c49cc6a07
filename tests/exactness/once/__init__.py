"""What does not depend on the host, or needs one with indexes: run with the first host only."""
