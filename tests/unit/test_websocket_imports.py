"""What WebSockets need is imported at the start. Whatever is wrong with it costs no other requests."""

import importlib
from typing import Any

import pytest

from clusterd.http.asgi import adapter


@pytest.mark.parametrize("wrong", [ImportError("no wsproto"), AttributeError("a broken one"), OSError(24, "too many")])
def test_what_is_wrong_with_wsproto_is_known_and_raised_nowhere(
    monkeypatch: pytest.MonkeyPatch, wrong: Exception
) -> None:
    known = list(adapter.LACKS)

    def fail(name: str) -> Any:
        raise wrong

    try:
        adapter.LACKS.clear()
        monkeypatch.setattr(importlib, "import_module", fail)
        adapter.import_websockets()
        assert [str(wrong)] == adapter.LACKS
    finally:
        adapter.LACKS[:] = known
