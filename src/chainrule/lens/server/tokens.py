"""The token of an address: what whoever asks must know. It is kept, so that a page that is open survives a restart.

    a start on a port ──> the token that this user had there before, or a new one ──> the address that is printed

It lies in a folder of this user's alone among the system's temporary files, a file for each port. A page that lost its server
sends it only to a server that proves that it knows it: another program may listen there in the meantime.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
from pathlib import Path

from chainrule.ownership import create, open_to_read, trusted_folder, user

_TOKEN = re.compile(r"[\w-]{32}", re.ASCII)


def new_token() -> str:
    """A token that nobody can guess, made of letters that stand in an address."""
    return secrets.token_urlsafe(24)


def kept_token(port: int) -> str:
    """The token of this user's servers on ``port``; a new one where there is none yet, or where none can be kept."""
    number = user()
    place = Path(tempfile.gettempdir()) / ("chainrule-lens" if number is None else f"chainrule-lens-{number}")
    try:
        folder = trusted_folder(place, make=True)
        if folder is None:
            return new_token()
        file = folder / f"token-{port}"
        return _read(file) or _written(file, new_token())
    except OSError:
        return new_token()


def proof(token: str, nonce: str) -> str:
    """What a server answers to a number that was asked once: it shows that it knows the token, and not the token itself."""
    return hmac.new(token.encode(), f"here {nonce}".encode(), hashlib.sha256).hexdigest()


def _read(file: Path) -> str:
    """The token in a file; empty if there is none, or one that somebody else may have read or written."""
    try:
        with os.fdopen(open_to_read(file), encoding="ascii") as opened:
            secret = user() is None or not stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
            text = opened.read(100)
    except (OSError, ValueError):
        return ""
    return text if secret and _TOKEN.fullmatch(text) else ""


def _written(file: Path, token: str) -> str:
    with os.fdopen(create(file), "w", encoding="ascii") as opened:
        opened.write(token)
    return token
