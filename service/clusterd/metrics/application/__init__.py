"""What happens in the application's processes, so that its metrics are in shared memory and show those of all workers.

Runs in the application's interpreter: standard library only. prometheus_client is the application's, of whatever
version, and nothing here imports it.
"""
