"""Kernel calls that Python does not have, and what processes here look like from outside."""
