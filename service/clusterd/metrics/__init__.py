"""What is counted, where, and how it is shown.

Imports nothing: `metrics.scoreboard` runs in the application's own interpreter, without prometheus_client.
"""
