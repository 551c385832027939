"""Which names are those of secrets, and texts without the values."""

from __future__ import annotations

import re

_SECRET = re.compile(
    r"(.*[_.\-])?(api_?key|access_?key|private_?key|secret(_?key)?|token|password|passwd|credentials?|authorization|bearer)",
    re.IGNORECASE,
)
_SECRET_LINE = re.compile(r"""^([ \t]*(?:- )?["']?)([\w.\-]+)(["']?[ \t]*[:=][ \t]*)(\S.*)$""", re.MULTILINE)
_VALUE = r"""("[^"\n]*"|'[^'\n]*'|(?:Bearer |Basic )?[^\s"',;(){}\[\]]+)"""
_SECRET_WORD = re.compile(rf"""(?<![\w.\-])([\w.\-]+)(["']?[ \t]?[:=][ \t]?){_VALUE}""")
"""``api_key=VALUE`` anywhere in a sentence."""
_ADDRESS = re.compile(r"(?<=://)[^/\s@]*@")
HIDDEN = "***"


def is_secret(name: str) -> bool:
    """Return whether the value of a key is one that nobody may see: ``api_key``, ``aws.secret_access_key``."""
    return _SECRET.fullmatch(name) is not None


def without_secrets(text: str) -> str:
    """Return a text without the values of keys such as ``api_key`` and without the passwords of addresses."""

    def line(found: re.Match[str]) -> str:
        return f"{found[1]}{found[2]}{found[3]}{HIDDEN}" if is_secret(found[2]) else found[0]

    def word(found: re.Match[str]) -> str:
        return f"{found[1]}{found[2]}{HIDDEN}" if is_secret(found[1]) else found[0]

    return _ADDRESS.sub("", _SECRET_WORD.sub(word, _SECRET_LINE.sub(line, text)))
