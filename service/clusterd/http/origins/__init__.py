"""Finds the client of a request behind trusted proxies."""
