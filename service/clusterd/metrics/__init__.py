"""Counters, the shared memory that holds them, and their exposition to Prometheus.

This module imports nothing: `metrics.scoreboard` runs in the application's interpreter, without prometheus_client.
"""
