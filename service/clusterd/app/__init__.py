"""Finds the application by its name, checks it, and describes its errors. Runs in the application's interpreter."""
