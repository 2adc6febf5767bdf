"""Reads a configuration from YAML, flags or a program, and reports everything that is wrong with it."""
