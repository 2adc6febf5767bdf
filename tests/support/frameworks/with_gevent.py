"""The applications that are written for threads, where greenlets take their place."""

from gevent import monkey

monkey.patch_all()

from tests.support.frameworks.with_django import make_wsgi as make_django  # noqa: E402 - gevent comes first
from tests.support.frameworks.with_flask import make as make_flask  # noqa: E402

__all__ = ["make_django", "make_flask"]
