"""A directory for sys.path: `clusterd` can be imported from it, and nothing else."""
