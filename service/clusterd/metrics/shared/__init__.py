"""The memory that workers write and the master reads. Runs in the application's interpreter: standard library only."""
