"""Compare the table with the runs. Nothing here writes the table: a repair logs changes for a flush."""
