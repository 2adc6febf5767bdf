"""What the supervisor decides, one concern in each module."""
