"""Parses requests and encodes responses, as bytes. Uses no socket."""
