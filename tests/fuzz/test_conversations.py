"""Engines among hostile clients for a few seconds, with the same streams every time; longer by `make fuzz`."""

import pytest

from tests.fuzz.conversations import KINDS, Kind, conversations

ROUNDS = 150


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_response_belongs_to_its_request(kind: Kind) -> None:
    with conversations(kind, seed=1) as talks:
        for _ in range(ROUNDS):
            talks.round()
        assert talks.requests > ROUNDS
