"""The process that imports the application once and forks workers from it."""
