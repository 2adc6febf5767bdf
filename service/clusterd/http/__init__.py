"""The HTTP/1 engine: connections in, calls of the application out. It knows nothing of clusters."""
