"""The characters of HTTP (RFC 9110 section 5.6, RFC 9112 sections 3 and 5), as pieces of regular expressions.

Possessive quantifiers throughout: a check never backtracks, so its time is linear in what a client sends.
"""

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"

FIELD_VALUE = r"[^\x00-\x08\x0a-\x1f\x7f]*+"
"""Anything but controls, HTAB excepted; above ASCII is obs-text, opaque and passed on."""

FIELD_LINE = rf"{TOKEN}:{FIELD_VALUE}\r\n"

FIELD_LINES = rf"(?:{FIELD_LINE})*+"
"""No space before the colon, no obs-fold, no bare CR or LF: each has been used to smuggle requests."""
