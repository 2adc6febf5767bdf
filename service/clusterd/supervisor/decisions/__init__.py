"""The decisions of the supervisor, one concern in each module."""
