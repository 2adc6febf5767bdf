"""What every process does that the master has started: its first order, and what it drops after a fork."""
