"""Random faults under mixed load, every request accounted for, and nothing left behind: `make soak`."""
