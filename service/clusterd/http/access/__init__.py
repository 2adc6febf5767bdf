"""What the log says of each request, and the identifiers of requests."""
