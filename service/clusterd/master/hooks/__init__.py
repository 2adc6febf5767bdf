"""The master's side of hooks: which hooks process runs, and what it is told."""
