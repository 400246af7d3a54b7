import os
import socket

import pytest

from shared.live import listener
from shared.live.listener import TABLES, foreign_uid, listener_uids

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def table(tmp_path, *rows):
    """A file as proc(5) describes it, of (address, state, uid)."""
    lines = [
        f"   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {uid}        0 5 1\n"
        for address, state, uid in rows
    ]
    path = tmp_path / "tcp"
    path.write_text(HEAD + "".join(lines))
    return (path,)


@pytest.mark.parametrize(
    ("address", "is_meant"),
    [
        ("0100007F:2198", True), ("00000000:2198", True), ("0100007F:2199", False), ("0101A8C0:2198", False),
        ("00000000000000000000000001000000:2198", True), ("00000000000000000000000000000000:2198", True),
        ("0000000000000000FFFF00000100007F:2198", True), ("000080FE000000000000000001000000:2198", False),
    ],
)  # fmt: skip
def test_the_addresses_that_serve_the_loopback(tmp_path, address, is_meant):
    assert listener_uids(8600, table(tmp_path, (address, "0A", 1001))) == ({1001} if is_meant else set())


def test_a_connection_is_no_listener(tmp_path):
    assert listener_uids(8600, table(tmp_path, ("0100007F:2198", "01", 1001))) == set()


def test_own_programs_and_those_of_root_are_no_strangers(tmp_path, monkeypatch):
    monkeypatch.setattr(listener.os, "getuid", lambda: 1000)
    rows = [("0100007F:2198", "0A", 1000), ("00000000:2198", "0A", 0)]
    assert foreign_uid(8600, table(tmp_path, *rows)) is None
    assert foreign_uid(8600, table(tmp_path, *rows, ("00000000:2198", "0A", 1001))) == 1001


def test_what_the_system_does_not_say_refuses_nobody(tmp_path):
    (tmp_path / "strange").write_text(HEAD + "x\n\n  0: y z 0A\n")
    assert foreign_uid(8600, (tmp_path / "absent", tmp_path / "strange")) is None


@pytest.mark.skipif(not TABLES[0].exists(), reason="this system has no /proc/net/tcp")
def test_a_real_listener_is_ours():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert listener_uids(server.getsockname()[1]) in ({os.getuid()}, set())
