"""What carries the bytes of a connection: the bare socket, the event loop, TLS, and files by sendfile(2)."""
