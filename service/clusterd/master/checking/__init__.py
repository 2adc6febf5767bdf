"""`clusterd --check`: the processes of a start, of which none serves a client."""
