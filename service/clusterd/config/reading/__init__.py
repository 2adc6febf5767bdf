"""Reads a configuration from YAML, flags or a program, and says everything that is wrong with it."""
