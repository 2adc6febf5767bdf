"""The definition of every setting: its kind, its default, and when a change takes effect."""
