"""Signatures of receipts and votes: Ed25519 over canonical JSON, with a private key file."""

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
"""More than any key needs; larger files are not keys."""
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
        """Load the key from a file, which is created first if it does not exist.

        Processes that race get the same key.

        Raises:
            SigningKeyError: The file cannot be created or read, has no key, or others may read it.
        """
        if not path.exists():
            cls.create(path)
        return cls.load(path)

    @staticmethod
    def create(path: Path) -> bool:
        """Create a file with a new key that only its owner can read, unless the file exists.

        Returns:
            Whether this call created it.

        Raises:
            SigningKeyError: The file cannot be created.
        """
        try:
            return _create(path)
        except OSError as error:
            msg = f"the signing key {path} cannot be created: {error}"
            raise SigningKeyError(msg) from error

    @classmethod
    def load(cls, path: Path) -> ReceiptSigner:
        """Load the key from a file: PEM, or the 32 raw bytes.

        Raises:
            SigningKeyError: The file cannot be read, has no key, or others may read it.
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
                f"{path} holds no key. Allowed is {_FORMS}, or the raw bytes. Restore it "
                "from a backup; if it is lost, move it away and make a new one (receipts "
                "of the old key still verify with its public key)"
            )
            raise SigningKeyError(msg)
        return cls(key)

    @classmethod
    def from_setting(cls, text: str, *, setting: str = "receipt_key") -> ReceiptSigner:
        r"""Return the signer of a key given as text: PEM (line ends may be `\n`), or base64.

        Raises:
            InvalidArgumentError: The text is not a key; the error names the setting, not the text.
        """
        key = _from_text(text.replace("\\n", "\n").strip().encode("utf-8", "replace"))
        if key is None:
            raise InvalidArgumentError(setting, _HIDDEN, _FORMS)
        return cls(key)

    def sign(self, receipt_data: Mapping[str, Any]) -> str:
        """Return the signature of the canonical JSON (RFC 8785) of data: base64 of 64 bytes.

        Raises:
            ValueError: The data is not JSON.
        """
        return base64.b64encode(self._key.sign(canonical(receipt_data))).decode("ascii")

    def __repr__(self) -> str:
        return f"<Signer {self.key_id}>"

    def __reduce__(self) -> Any:
        msg = "a signer cannot be pickled: it holds a private key"
        raise TypeError(msg)


def receipt_signer(settings: Settings) -> ReceiptSigner:
    """Return the signer of receipts: the key of the settings, or a file that is made at first use.

    Raises:
        SigningKeyError: The key cannot be read or made.
    """
    if settings.receipt_key is not None:
        return ReceiptSigner.from_setting(settings.receipt_key)
    return ReceiptSigner.load_or_create(settings.receipt_key_path)


def approver_of(settings: Settings) -> ReceiptSigner | None:
    """Return the signer of this user's answers; None without a key.

    Raises:
        SigningKeyError: The key cannot be read, or the file that the settings name does not exist.
    """
    path = settings.approver_key_path
    if settings.approver_key is None and not path.exists():
        return None
    return ReceiptSigner.load(path)


def verify_signature(public_key: str, data: Mapping[str, Any], signature: str) -> bool:
    """Return whether a signature is of this data and made with the private half of this key.

    Invalid keys, signatures and data return False.
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
    """Create the file atomically; return False if it exists."""
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
        if os.path.lexists(path):  # a link to a volume that is not mounted counts as a key
            return False
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)  # left by a process that died here
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
