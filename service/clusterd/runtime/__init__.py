"""What clusterd takes of Python: threads, greenlets, and the standard library as it is before the application."""
