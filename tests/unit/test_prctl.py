"""What is asked of the kernel by prctl(2)."""

from typing import Any

import pytest

from clusterd.linux import prctl

pytestmark = pytest.mark.engine_independent

PR_SET_PTRACER = 0x59616D61
"""linux/prctl.h: "Yama" in ASCII."""


@pytest.mark.parametrize("has_yama", [True, False])
def test_a_master_that_is_no_ancestor_is_let_take_descriptors(monkeypatch: pytest.MonkeyPatch, has_yama: bool) -> None:
    asked: list[tuple[int, ...]] = []

    class Kernel:
        """Without Yama it knows no such option (EINVAL)."""

        def prctl(self, option: int, *arguments: Any) -> int:
            asked.append((option, *(each.value or 0 for each in arguments)))
            return 0 if has_yama else -1

    monkeypatch.setattr(prctl, "_libc", Kernel())
    assert prctl.allow_tracer(4711) is has_yama
    assert asked == [(PR_SET_PTRACER, 4711, 0, 0, 0)]
