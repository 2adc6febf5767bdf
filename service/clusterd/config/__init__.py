"""The configuration: one definition per setting, read whole and checked whole.

This module imports nothing: `config.model` crosses into the application's own interpreter,
which may have no PyYAML.
"""
