"""Table and runs side by side. Nothing here writes rows: what differs is logged as a change, and a flush repairs it."""
