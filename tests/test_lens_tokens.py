"""Tokens of the lens's address: kept for the same user and port, and for nobody else to read."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

import pytest

from chainrule import ownership
from chainrule.lens.server import tokens
from chainrule.lens.server.serving import LensServer
from chainrule.lens.server.tokens import kept_token, new_token
from lens_server import Lens
from systems import needs

NONCE = "0123456789abcdef" * 2
NOBODY = {"X-Chainrule-Token": None}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, for these tests alone."""
    monkeypatch.setattr(tokens.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def file_of(place: Path, port: int) -> Path:
    (folder,) = place.iterdir()
    return folder / f"token-{port}"


def test_a_token_is_the_same_after_a_restart_and_another_on_another_port(place: Path) -> None:
    first = kept_token(8517)
    assert len(first) == 32
    assert kept_token(8517) == first
    assert kept_token(8518) != first
    assert file_of(place, 8517).read_text() == first


@needs("file modes")
def test_nobody_else_may_read_it(place: Path) -> None:
    first = kept_token(8517)
    file = file_of(place, 8517)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    file.chmod(0o644)
    second = kept_token(8517)  # as somebody may have read the other one
    assert second != first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.parent.chmod(0o777)  # and may write another one there
    assert kept_token(8517) != second
    assert file.read_text() == second


@pytest.mark.parametrize("text", ["", "short", "x" * 33, "ä" * 32, "a b" * 11])
def test_what_is_no_token_is_replaced(text: str, place: Path) -> None:
    kept_token(8517)
    file_of(place, 8517).write_text(text, encoding="utf-8")
    made = kept_token(8517)
    assert made != text
    assert file_of(place, 8517).read_text() == made


def test_where_none_can_be_kept_each_start_has_a_new_one(place: Path) -> None:
    name = "chainrule-lens" if ownership.user() is None else f"chainrule-lens-{ownership.user()}"
    (place / name).write_text("a file")
    assert kept_token(8517) != kept_token(8517)
    assert len(kept_token(8517)) == 32


@needs("links and pipes")
def test_a_link_to_another_file_is_not_followed(place: Path) -> None:
    kept_token(8517)
    file = file_of(place, 8517)
    (place / "theirs").write_text(new_token())
    file.unlink()
    os.symlink(place / "theirs", file)
    assert kept_token(8517) != (place / "theirs").read_text()
    assert not file.is_symlink()


def test_a_server_keeps_it_if_it_is_asked_to_and_the_port_was_wanted(shipped_lens: Lens) -> None:
    subject = shipped_lens.subject
    for port, keep, same in ((0, True, False), (8800, False, False), (8800, True, True)):
        seen = set()
        for _ in range(2):
            server = LensServer(subject, port, keep_token=keep)
            seen.add(server.token)
            server.start()
            server.stop()
        assert (len(seen) == 1) is same, (port, keep)


def test_a_server_proves_that_it_knows_the_token_without_saying_it(shipped_lens: Lens) -> None:
    token = shipped_lens.server.token
    answer = shipped_lens.ask(f"/api/here?nonce={NONCE}", headers=NOBODY)
    assert answer.status == 200
    assert answer.json == {"proof": hmac.new(token.encode(), f"here {NONCE}".encode(), hashlib.sha256).hexdigest()}
    for query in ("", "?nonce=1", f"?nonce={NONCE}0", f"?nonce={NONCE}&more=1"):
        assert shipped_lens.refused(f"/api/here{query}", headers=NOBODY).startswith("The nonce is missing or no such number.")
