"""clusterd: a systemd-integrated production server for Python web applications.

Imports nothing: templates and workers load this package in the application's own interpreter.
"""

__version__ = "0.1.0"
