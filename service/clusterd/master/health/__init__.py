"""The health of the workers: which are stuck, which are over a limit, and whether any answers requests."""
