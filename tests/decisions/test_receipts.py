"""Receipts: one key however many ask for it, read by its owner alone, and shown to nobody."""

from __future__ import annotations

import base64
import hashlib
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from autotrace.decisions.receipts import ReceiptSigner, verify_signature
from autotrace.errors import InvalidArgumentError, SigningKeyError, StoreError

ROOT = Path(__file__).parents[2]
RAW = bytes(range(32))
RAW_TEXT = base64.b64encode(RAW).decode()
DATA = {"decision_id": "decision-1", "status": "committed", "tags": ["ä", 1, None]}

posix_only = pytest.mark.skipif(os.name != "posix", reason="modes of files are those of POSIX")


def pem_of(key: Any, password: bytes | None = None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


PEM = pem_of(Ed25519PrivateKey.from_private_bytes(RAW))


def test_a_signature_holds_for_what_was_signed_however_it_is_spelled() -> None:
    signer = ReceiptSigner.from_setting(RAW_TEXT)
    signature = signer.sign(DATA)

    assert verify_signature(signer.public_key, dict(reversed(DATA.items())), signature)
    assert signer.sign(DATA) == signature
    public = base64.b64decode(signer.public_key)
    assert len(public) == 32
    assert signer.key_id == hashlib.sha256(public).hexdigest()[:16]
    assert len(base64.b64decode(signature)) == 64
    assert not verify_signature(signer.public_key, DATA | {"status": "aborted"}, signature)
    assert not verify_signature(signer.public_key, DATA, signer.sign({}))
    other = ReceiptSigner.from_setting(base64.b64encode(bytes(32)).decode())
    assert not verify_signature(other.public_key, DATA, signature)
    assert other.key_id != signer.key_id


@given(st.text() | st.binary().map(lambda data: base64.b64encode(data).decode()))
def test_what_is_no_signature_or_no_key_does_not_verify(junk: str) -> None:
    signer = ReceiptSigner.from_setting(RAW_TEXT)

    assert not verify_signature(signer.public_key, DATA, junk)
    assert not verify_signature(junk, DATA, signer.sign(DATA))


def test_what_is_no_json_does_not_verify() -> None:
    signer = ReceiptSigner.from_setting(RAW_TEXT)

    assert not verify_signature(signer.public_key, {"at": object()}, signer.sign(DATA))


@posix_only
def test_a_new_key_is_for_its_owner_alone_and_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    before = os.umask(0)
    try:
        made = ReceiptSigner.load_or_create(path)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ReceiptSigner.load_or_create(path).public_key == made.public_key
    assert verify_signature(made.public_key, DATA, ReceiptSigner.load_or_create(path).sign(DATA))


def test_processes_that_ask_at_once_get_one_key(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from autotrace.decisions.receipts import ReceiptSigner\n"
        "import cryptography.hazmat.primitives.asymmetric.ed25519, filelock\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for n in range(20):\n"
        "    print(ReceiptSigner.load_or_create(pathlib.Path(sys.argv[1]) / str(n)).public_key)"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = {racer.communicate(timeout=500)[0] for racer in racers}

    (keys,) = said
    assert len(set(keys.split())) == 20
    assert {name.suffix for name in tmp_path.iterdir()} <= {"", ".lock"}


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_may_read_is_refused_with_the_fix(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    ReceiptSigner.load_or_create(path)
    path.chmod(mode)

    with pytest.raises(SigningKeyError, match=rf"{mode:04o}.*chmod 600"):
        ReceiptSigner.load_or_create(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", RAW[:31], PEM[:60], PEM.replace(b"M", b"*"), b"x" * 10_000, bytes(33)],
    ids=lambda data: f"{data[:12]!r}({len(data)})",
)
def test_a_damaged_key_is_refused_left_as_it_is_and_not_shown(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key.pem"
    path.touch(mode=0o600)
    path.write_bytes(data)

    with pytest.raises(StoreError) as caught:
        ReceiptSigner.load_or_create(path)

    assert str(path) in str(caught.value)
    assert path.read_bytes() == data


@pytest.mark.parametrize("data", [RAW, PEM, RAW_TEXT.encode() + b"\n"], ids=["raw", "pem", "text"])
def test_a_key_of_ones_own_may_be_in_any_of_these_forms(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key.pem"
    path.touch(mode=0o600)
    path.write_bytes(data)

    assert ReceiptSigner.load_or_create(path).key_id == ReceiptSigner.from_setting(RAW_TEXT).key_id


@posix_only
def test_the_folder_of_a_new_key_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    ReceiptSigner.load_or_create(tmp_path / "new" / "key.pem")

    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_place_where_no_key_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SigningKeyError, match=r"file.key\.pem"):
        ReceiptSigner.load_or_create(tmp_path / "file" / "key.pem")


@pytest.mark.parametrize(
    "text", [PEM.decode(), PEM.decode().replace("\n", "\\n"), f" {RAW_TEXT}\n"]
)
def test_a_setting_gives_the_key(text: str) -> None:
    assert (
        ReceiptSigner.from_setting(text).public_key
        == ReceiptSigner.from_setting(RAW_TEXT).public_key
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", RAW_TEXT[:-4], RAW_TEXT + "AAAA", "geheim" * 7, "ü" * 43, PEM.decode()[:-40]),
        pem_of(Ed25519PrivateKey.generate(), b"password").decode(),
        pem_of(generate_private_key(SECP256R1())).decode(),
    ],
    ids=range(8),
)
def test_a_setting_that_is_no_key_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        ReceiptSigner.from_setting(text, setting="AUTOTRACE_KEY")

    assert caught.value.field == "AUTOTRACE_KEY"
    for line in filter(None, text.split("\n")):
        assert line not in str(caught.value) + repr(caught.value) + str(caught.value.value)


def test_a_signer_shows_only_its_id() -> None:
    signer = ReceiptSigner.from_setting(RAW_TEXT)

    assert repr(signer) == f"<Signer {signer.key_id}>"
    with pytest.raises(TypeError):
        pickle.dumps(signer)


def test_cryptography_is_loaded_by_the_first_key() -> None:
    code = "import sys, autotrace.decisions.receipts; print('cryptography' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "False\n"
