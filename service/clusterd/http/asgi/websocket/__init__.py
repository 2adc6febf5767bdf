"""WebSockets (RFC 6455) for ASGI applications."""
