"""Frameworks and the suites of others, under the real server: `make conformance`."""
