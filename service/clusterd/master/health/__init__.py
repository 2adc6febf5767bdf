"""The master's look at its workers: which are stuck, which are over a limit, and whether any answers."""
