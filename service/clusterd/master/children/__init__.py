"""The master's processes: the table of them, how they start, how they are told something, and how they end."""
