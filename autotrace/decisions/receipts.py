"""Signing receipts and votes: Ed25519 over canonical JSON, with a key only its owner can read."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from autotrace.base.canonical_json import canonical
from autotrace.base.private_folder import private_directory
from autotrace.errors import InvalidArgumentError, SigningKeyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from autotrace.settings import Settings

_KEY_BYTES: Final = 32
_MAX_FILE_BYTES: Final = 4096
"""Far more than a key has: what is larger is something else."""
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_HIDDEN: Final = "(not shown)"
_FORMS: Final = "an unencrypted Ed25519 private key: PEM (PKCS #8), or base64 of its 32 bytes"


class ReceiptSigner:
    """Signs receipts and votes. Make one with `load_or_create`, `load` or `from_setting`."""

    __slots__ = ("_key", "key_id", "public_key")

    key_id: str
    """The first 16 hex digits of the SHA-256 of the public key."""
    public_key: str
    """Base64 of the 32 bytes of the public key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        public = key.public_key().public_bytes_raw()
        self._key = key
        self.key_id = hashlib.sha256(public).hexdigest()[:16]
        self.public_key = base64.b64encode(public).decode("ascii")

    @classmethod
    def load_or_create(cls, path: Path) -> ReceiptSigner:
        """Take the key from a file, which is made, open to its owner alone, if there is none.

        However many processes ask at once, all get the same key.

        Args:
            path: The file: PEM, or the 32 raw bytes.

        Raises:
            SigningKeyError: Others may read the file, it holds no key, or it cannot be read or
                made.
        """
        if not path.exists():
            cls.create(path)
        return cls.load(path)

    @staticmethod
    def create(path: Path) -> bool:
        """Make a file with a new key, open to its owner alone, if there is no such file.

        Returns:
            Whether this call has made it.

        Raises:
            SigningKeyError: It cannot be made.
        """
        try:
            return _create(path)
        except OSError as error:
            msg = f"the signing key {path} cannot be made: {error}"
            raise SigningKeyError(msg) from error

    @classmethod
    def load(cls, path: Path) -> ReceiptSigner:
        """Take the key from a file.

        Raises:
            SigningKeyError: Others may read the file, it holds no key, or it cannot be read.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(_MAX_FILE_BYTES + 1)
        except OSError as error:
            msg = f"the signing key {path} cannot be read: {error}"
            raise SigningKeyError(msg) from error
        if os.name == "posix" and mode & _OTHERS:
            msg = (
                f"others may read the signing key {path} (mode {stat.S_IMODE(mode):04o}): "
                f"`chmod 600 {path}`, and if somebody may have read it, move it away and make a "
                "new one"
            )
            raise SigningKeyError(msg)
        key = _read(data)
        if key is None:
            msg = (
                f"{path} holds no key: it is to be {_FORMS}, or those bytes as they are. Bring it "
                "back from a backup; if it is lost, move it away and make a new one (what was "
                "signed with the old one still verifies with its public key)"
            )
            raise SigningKeyError(msg)
        return cls(key)

    @classmethod
    def from_setting(cls, text: str, *, setting: str = "receipt_key") -> ReceiptSigner:
        r"""Take a key from text: PEM (line ends may be spelled `\n`), or base64 of 32 bytes.

        Args:
            text: The key.
            setting: Name of the setting, for the error.

        Raises:
            InvalidArgumentError: It is none; it is not shown.
        """
        key = _from_text(text.replace("\\n", "\n").strip().encode("utf-8", "replace"))
        if key is None:
            raise InvalidArgumentError(setting, _HIDDEN, _FORMS)
        return cls(key)

    def sign(self, receipt_data: Mapping[str, Any]) -> str:
        """Sign the canonical JSON (RFC 8785) of some data.

        Returns:
            The signature; base64 of 64 bytes.

        Raises:
            ValueError: It is not JSON.
        """
        return base64.b64encode(self._key.sign(canonical(receipt_data))).decode("ascii")

    def __repr__(self) -> str:
        return f"<Signer {self.key_id}>"

    def __reduce__(self) -> Any:
        msg = "a signer is not pickled: it holds a private key"
        raise TypeError(msg)


def approver_of(settings: Settings) -> ReceiptSigner | None:
    """Return what signs the answers of this user; None if there is no key.

    Raises:
        SigningKeyError: The key cannot be read, or the settings name one that is not there.
    """
    path = settings.approver_key_path
    if settings.approver_key is None and not path.exists():
        return None
    return ReceiptSigner.load(path)


def verify_signature(public_key: str, data: Mapping[str, Any], signature: str) -> bool:
    """Tell whether a signature is of this data and made with the private half of this key.

    Args:
        public_key: Base64 of its 32 bytes.
        data: What was signed.
        signature: Base64, as `ReceiptSigner.sign` returns it.

    Returns:
        False also for what is no key, no signature or no JSON.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signature, validate=True), canonical(data))
    except (InvalidSignature, ValueError):  # binascii.Error is a ValueError
        return False
    return True


def _create(path: Path) -> bool:
    """Make the file, whole at once, unless there is one; return whether this call has made it.

    Raises:
        OSError: It cannot be made.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from filelock import FileLock

    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    private_directory(path.parent)
    with FileLock(path.with_name(f"{path.name}.lock"), mode=0o600):
        if os.path.lexists(path):  # a link to a volume that is not mounted is somebody's key, too
            return False
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)  # of a process that died here
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        return True


def _read(data: bytes) -> Ed25519PrivateKey | None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if len(data) == _KEY_BYTES:
        return Ed25519PrivateKey.from_private_bytes(data)
    return _from_text(data.strip())


def _from_text(text: bytes) -> Ed25519PrivateKey | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        if b"PRIVATE KEY-----" in text:
            key = load_pem_private_key(text, password=None)
            return key if isinstance(key, Ed25519PrivateKey) else None
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(text, validate=True))
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error):  # TypeError: encrypted
        return None
