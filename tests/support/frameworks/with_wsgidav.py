"""A directory, served by WsgiDAV."""

import os
from pathlib import Path
from typing import Any

from wsgidav.wsgidav_app import WsgiDAVApp

from tests.support.frameworks import shared


def make() -> Any:
    directory = Path(os.environ[shared.NOTES]) / "davs"
    directory.mkdir(exist_ok=True)
    (directory / "file").write_bytes(shared.FILE.read_bytes())
    (directory / "hello").write_text("hello")
    return WsgiDAVApp(
        {
            "provider_mapping": {"/": str(directory)},
            "simple_dc": {"user_mapping": {"*": True}},
            "logging": {"enable": False},
            "verbose": 0,
        }
    )
