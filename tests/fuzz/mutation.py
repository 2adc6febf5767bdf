"""Streams of bytes that are nearly HTTP: what the corpus holds, taken apart and put together again by a seeded dice."""

from pathlib import Path
from random import Random

CORPUS = Path(__file__).with_name("corpus")

# What has been used to smuggle, to confuse or to exhaust, and what delimits.
DICTIONARY = (
    *(
        b"\r\n",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b"\n\n",
        b"\r\r\n",
        b" ",
        b"\t",
        b"\0",
        b"\x0b",
        b"\x7f",
        b"\x85",
        b"\xa0",
        b"\xff",
    ),
    *(
        b":",
        b": ",
        b" :",
        b",",
        b";",
        b"#",
        b"?",
        b"*",
        b"/",
        b"//",
        b"%00",
        b"http://",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"HTTP/2.0",
    ),
    *(b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"content-length:+5\r\n", b"Content-Length: 5, 5\r\n"),
    *(b"X_A: 1\r\n", b"X-A: 2\r\n", b"_"),
    *(b"Content_Length: 5\r\n", b"Content-Length : 5\r\n", b"Content-Length: 0x5\r\n", b"Content-Length: 00005\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: xchunked\r\n"),
    *(
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked \r\n",
    ),
    *(
        b" chunked\r\n",
        b"Host: a\r\n",
        b"Host: b@c\r\n",
        b"Host:\r\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
    ),
    *(
        b"Expect: 100-continue\r\n",
        b"Expect: 200-ok\r\n",
        b"0\r\n\r\n",
        b"0\r\n",
        b"5\r\nhello\r\n",
        b"00000005\r\nhello\r\n",
    ),
    *(
        b"5;a=b\r\nhello\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"0\r\nHost: y\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"-1\r\n",
        b"x" * 300,
    ),
    *(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST ", b"HEAD ", b"OPTIONS * ", b"CONNECT ", b"CONNECT / "),
)


def corpus() -> list[bytes]:
    """The seeds: each file is one stream."""
    return [path.read_bytes() for path in sorted(CORPUS.iterdir())]


def mutated(dice: Random, seeds: list[bytes]) -> bytes:
    """A seed, changed in a few places or joined with others."""
    data = dice.choice(seeds)
    for _ in range(dice.choice((0, 1, 1, 1, 2, 3, 6))):
        at = dice.randint(0, len(data))
        match dice.randrange(9):
            case 0:
                data = data[:at] + dice.choice(DICTIONARY) + data[at:]
            case 1:
                data = data[:at] + dice.choice(DICTIONARY) + data[at + dice.randint(1, 8) :]
            case 2:
                data = data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
            case 3:
                data = data[:at] + data[at + dice.randint(1, 4) :]
            case 4:
                end = dice.randint(at, min(len(data), at + 60))
                data = data[:end] + data[at:end] + data[end:]
            case 5:
                other = dice.choice(seeds)
                data = data[:at] + other[dice.randint(0, len(other)) :]
            case 6:
                data += dice.choice(seeds)
            case 7:
                data = data[:at]
            case _:
                # A whole line more, where lines begin: the smallest step from one header to two.
                lines = data.splitlines(keepends=True)
                lines.insert(dice.randint(0, len(lines)), dice.choice(DICTIONARY))
                data = b"".join(lines)
    return data


def pieces(dice: Random, data: bytes) -> list[bytes]:
    """The same bytes, in pieces as a network might make them."""
    if not data:
        return []
    places = sorted({0, *(dice.randrange(len(data)) for _ in range(dice.choice((0, 1, 2, 5, 20))))})
    return [data[start:end] for start, end in zip(places, [*places[1:], len(data)], strict=True)]
