"""The ASGI adapter (https://asgi.readthedocs.io): calls the application in a task on the event loop."""
