"""The version of clusterd."""

__version__ = "0.1.0"
