"""What follows the commit of a save: a marker in Redis, a message to the broker, a gate in the process."""
