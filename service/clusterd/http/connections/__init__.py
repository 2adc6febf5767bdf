"""Connections to clients: their transports, their requests, their handover to another worker, and their end."""
