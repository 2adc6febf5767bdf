"""Profiles of workers and of their memory: what workers write, how the master gets it, and what is made of it."""
