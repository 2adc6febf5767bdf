"""The ASGI adapter (https://asgi.readthedocs.io): the application is called in a task on the loop."""
