"""Each fault is made for real, and told with its reason."""
