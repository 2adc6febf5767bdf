"""The master: one event loop that carries out what the supervisor decides. It never imports the application."""
