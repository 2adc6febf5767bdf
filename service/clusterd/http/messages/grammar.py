"""The grammar of HTTP (RFC 9110 section 5.6, RFC 9112 sections 3 and 5), as pieces of regular expressions.

All quantifiers are possessive: a match never backtracks, so its time is linear in the bytes that a client sends.
"""

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"

FIELD_VALUE = r"[^\x00-\x08\x0a-\x1f\x7f]*+"
"""Any character except controls, but with HTAB. Bytes above ASCII are obs-text, which is opaque and passed on."""

FIELD_LINE = rf"{TOKEN}:{FIELD_VALUE}\r\n"

FIELD_LINES = rf"(?:{FIELD_LINE})*+"
"""Allows no space before the colon, no obs-fold and no bare CR or LF: each has been used to smuggle requests."""
