"""Table and runs side by side: drift is told from what waits and from what is refused, in one snapshot."""
