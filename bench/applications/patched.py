"""The WSGI application of `hello` under gevent: the first import patches, as in an application of gunicorn's users."""

# ruff: noqa: E402 - the patch comes first
from gevent import monkey

monkey.patch_all()

from hello import wsgi  # type: ignore[import-not-found]  # it is beside this file where both are served

__all__ = ["wsgi"]
