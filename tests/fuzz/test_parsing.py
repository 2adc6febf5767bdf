"""The parser against the reference, for a few seconds and the same streams every time; longer by `make fuzz`."""

import gc
from random import Random

import pytest

from clusterd.http.messages.head import REMEMBERED, REMEMBERED_LINES, HeadParser
from clusterd.http.messages.memory import Memory
from clusterd.http.settings import Underscores
from tests.fuzz.mutation import CORPUS
from tests.fuzz.parsing import LIMITS, Parsing, check

STREAMS = 12_000


@pytest.mark.parametrize("underscores", Underscores)
@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.iterdir()))
def test_a_seed_means_the_same_to_the_server_and_to_the_reference(name: str, underscores: Underscores) -> None:
    check(HeadParser(LIMITS, underscores), underscores, (CORPUS / name).read_bytes(), Random(0))


@pytest.mark.parametrize("seed", [1, 2])
def test_what_comes_of_the_seeds_means_the_same(seed: int) -> None:
    parsing = Parsing(seed)
    for _ in range(STREAMS):
        parsing.round()
    assert parsing.requests > STREAMS / 10 and parsing.refused > STREAMS / 10  # both sides of the border are met


def test_what_is_remembered_of_an_absolute_target_does_not_reach_others() -> None:
    heads = HeadParser(LIMITS, Underscores.DROP)
    for _ in range(2):
        assert heads.parse(b"GET http://evil/x HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n").fields["host"] == "evil"
        plain = heads.parse(b"GET /x HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n")
        assert plain.fields["host"] == "a"
        assert (b"host", b"a") in [line.raw for line in plain.fields.lines]


def test_memories_are_bounded() -> None:
    heads = HeadParser(LIMITS, Underscores.DROP)
    for number in range(3 * REMEMBERED_LINES):
        heads.parse(b"GET /%d HTTP/1.1\r\nHost: h%d\r\n\r\n" % (number, number))
    sizes = sorted(len(each) for each in gc.get_referents(heads) if isinstance(each, Memory))
    assert len(sizes) == 3
    assert sizes[1] <= REMEMBERED < sizes[2] <= REMEMBERED_LINES
