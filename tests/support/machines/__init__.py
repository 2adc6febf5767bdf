"""Debian machines for the system ring."""
