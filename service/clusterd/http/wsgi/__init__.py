"""The WSGI adapter (PEP 3333): the application is called in a thread, or on the loop."""
