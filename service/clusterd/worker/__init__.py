"""One worker process: it serves the application and talks to the master."""
