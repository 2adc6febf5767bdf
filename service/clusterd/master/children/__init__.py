"""The child processes of the master: their table, how they start, what they are sent, and how they end."""
