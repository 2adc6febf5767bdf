"""The master's side of the hooks: which hooks process runs, and which events it receives."""
