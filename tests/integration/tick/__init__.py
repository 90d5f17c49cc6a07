"""Beat's look: what waits without a flush to come, and whether writes are still captured."""
