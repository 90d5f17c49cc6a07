"""With the first host, whose models the frozen tables refer to."""
