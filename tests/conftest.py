"""What holds for the tests of every ring."""

from hypothesis import settings

# How long an example takes depends on what else the machine does.
settings.register_profile("clusterd", deadline=None)
settings.load_profile("clusterd")
