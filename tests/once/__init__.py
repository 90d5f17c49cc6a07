"""What does not depend on the host; run with the first one only."""
