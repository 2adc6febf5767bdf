"""The HTTP/1 engine: it serves connections by calling the application. It knows nothing of clusters."""
