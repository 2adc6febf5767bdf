"""The memory in which the application's values are: its layout, who has which part of it, and how it is read.

Runs in the master and in the application's interpreter: standard library only.
"""
