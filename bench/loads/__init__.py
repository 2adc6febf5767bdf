"""What asks: load generators, some of them programs of their own."""
