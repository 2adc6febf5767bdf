"""The hooks process: it calls the application's handlers of worker events and messages (docs/hooks.md)."""
