"""The configuration: each setting is defined once, and the whole configuration is read and checked at once.

This module imports nothing. `config.model` is also imported by the application's own interpreter, which may have no
PyYAML.
"""
