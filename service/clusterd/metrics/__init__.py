"""Counters, the shared memory that holds them, and their exposition to Prometheus.

`shared/` runs in the application's interpreter, without prometheus_client.
"""
