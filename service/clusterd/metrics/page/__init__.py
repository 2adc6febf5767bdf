"""The metrics page, which the master makes of the shared memory, of what the kernel tells and of its own facts."""
