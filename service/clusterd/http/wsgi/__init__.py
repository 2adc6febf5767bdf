"""The WSGI adapter (PEP 3333): calls the application in a thread or on the event loop."""
