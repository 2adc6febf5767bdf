"""The master: one loop that carries out what the supervisor decides. It never imports the application."""
