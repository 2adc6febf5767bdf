"""Requests and responses as bytes: found, checked, taken apart and put together. No socket, no clock."""
