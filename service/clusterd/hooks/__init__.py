"""The hooks process: it calls an application's handlers for what becomes of the workers (docs/hooks.md)."""
