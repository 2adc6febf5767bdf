"""An exception of the application as text."""

import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterd.log import tracebacks

pytestmark = pytest.mark.engine_independent

OURS = f"{Path(tracebacks.__file__).parents[1]}/http/asgi/call.py"
COMPILED = "service/clusterd/http/asgi/call.py"
LIBRARY = "/srv/app/.venv/lib/python3.11/site-packages/library/core.py"
STANDARD = f"{sysconfig.get_path('stdlib')}/json/decoder.py"
APPLICATION = "/srv/app/shop.py"


def calls(*files: str, raising: str = "raise ValueError('no\\n  good')") -> Exception:
    """The exception that is raised when a function of each file calls that of the next."""
    function: Callable[[], object] | None = None
    for file in reversed(files):
        body = raising if function is None else "inner()"
        names = {"inner": function}
        exec(compile(f"def run():\n    {body}\n", file, "exec"), names)
        function = names["run"]
    assert function is not None
    try:
        function()
    except Exception as error:
        # Without the frame of this function.
        return error.with_traceback(error.__traceback__.tb_next if error.__traceback__ else None)
    raise AssertionError


def files_in(text: str) -> list[str]:
    return [line.split('"')[1] for line in text.splitlines() if line.startswith("  File ")]


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ((OURS, APPLICATION), APPLICATION),
        ((APPLICATION, LIBRARY, STANDARD), APPLICATION),
        ((APPLICATION, LIBRARY, APPLICATION, OURS, COMPILED), APPLICATION),
        ((OURS, LIBRARY, STANDARD), LIBRARY),
        ((OURS, STANDARD), STANDARD),
    ],
)
def test_the_line_ends_with_the_last_place_of_the_application(files: tuple[str, ...], place: str) -> None:
    assert tracebacks.in_one_line(calls(*files)) == f"ValueError: no good ({place}:2)"


def test_there_is_no_place_in_clusterd() -> None:
    assert tracebacks.in_one_line(calls(OURS, COMPILED)) == "ValueError: no good"


def test_a_syntax_error_is_where_it_is_written() -> None:
    error = calls(APPLICATION, raising="compile('a b', '/srv/app/other.py', 'exec')")
    assert tracebacks.in_one_line(error) == "SyntaxError: invalid syntax (/srv/app/other.py:1)"


def test_a_traceback_has_no_frames_of_clusterd_and_of_the_import_that_it_began() -> None:
    frozen = "<frozen importlib._bootstrap>"
    error = calls(OURS, frozen, APPLICATION, frozen, LIBRARY, COMPILED)
    found = tracebacks.application_traceback(error)
    assert files_in(found) == [APPLICATION, frozen, LIBRARY]
    assert found.startswith("Traceback (most recent call last):\n")
    assert found.endswith("ValueError: no\n  good")


def test_its_causes_have_none_either() -> None:
    error = calls(OURS, APPLICATION)
    error.__cause__ = calls(OURS, LIBRARY)
    error.__cause__.__context__ = calls(COMPILED, STANDARD)
    assert files_in(tracebacks.application_traceback(error)) == [STANDARD, LIBRARY, APPLICATION]
    group = ExceptionGroup("some", [calls(OURS, APPLICATION)])
    assert OURS not in tracebacks.application_traceback(group)


def test_an_error_of_clusterd_itself_keeps_its_frames_where_they_are_asked_for() -> None:
    error = calls(OURS, COMPILED)
    assert tracebacks.application_traceback(error) == "ValueError: no\n  good"
    assert files_in(tracebacks.application_traceback(error, or_ours=True)) == [OURS, COMPILED]
    assert files_in(tracebacks.application_traceback(calls(OURS, APPLICATION), or_ours=True)) == [APPLICATION]


def written(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_a_text_that_is_a_traceback_is_told_as_an_exception_is() -> None:
    error = calls(COMPILED, LIBRARY, APPLICATION, STANDARD)
    error.__cause__ = calls(OURS, LIBRARY, raising="{}['missing']")
    line, whole = tracebacks.of_text(written(error))
    assert line == f"ValueError: no good ({APPLICATION}:2)"
    assert files_in(whole) == [LIBRARY, LIBRARY, APPLICATION, STANDARD]
    assert "KeyError: 'missing'" in whole


def test_so_is_one_of_a_group() -> None:
    line, _ = tracebacks.of_text(written(ExceptionGroup("some", [calls(LIBRARY, APPLICATION)])))
    assert line == f"ValueError: no good ({APPLICATION}:2)"


def test_another_text_is_told_as_it_is() -> None:
    assert tracebacks.of_text("no database\n") == ("no database", "")
    assert tracebacks.of_text("no database:\n  it is down") == ("no database: it is down", "no database:\n  it is down")
    assert tracebacks.of_text("") == ("", "")
