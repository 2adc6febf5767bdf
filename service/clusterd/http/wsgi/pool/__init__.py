"""The threads that call a WSGI application."""
