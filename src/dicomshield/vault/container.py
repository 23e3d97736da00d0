"""Sealed objects: encrypted so that any part can be read by itself, and no part changed unseen.

::

    8    magic, "DCMSHLD" and the version of the format        |
    16   kid, the name of the data key                         | the context
    2+n  length of the label, big-endian, and the label, UTF-8 |
    24   salt, random
    32   commitment to the key
    ...  16384 bytes a chunk, each encrypted and followed by a tag of 16; the last one is shorter, maybe empty

From the salt on it is a Cobblestone-256 message (c2sp.org/chunked-encryption@v1: AES-256-GCM, HKDF-Expand-SHA-512),
as ``cryptography.cobblestone`` and filippo.io/cobblestone write and read it. The first of them works only from the
beginning to the end; here chunks are read in any order, and those whose content is known last are written last.
"""

from __future__ import annotations

import hmac
import io
import os
from collections.abc import Callable
from mmap import mmap
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

from cryptography.cobblestone import Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ..encoding.source import Source
from ..errors import PolicyError, Quarantined, Reason, VaultError
from .files import LargeFile, whole_file
from .keys import DataKey

__all__ = ["Readable", "SealedHeader", "SealedReader", "Sealer", "open_sealed", "read_header", "seal", "seal_file"]

_MAGIC: Final = b"DCMSHLD1"
_KID: Final = 16
_FIXED: Final = len(_MAGIC) + _KID + 2
_LABEL: Final = 1024

_INFO: Final = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
_SALT: Final = 24
_PREFIX: Final = _SALT + 32
_CHUNK: Final = 16384
_TAG: Final = 16
_SEALED: Final = _CHUNK + _TAG

_BATCH: Final = 32
"""Chunks worked on at once: their plaintext and ciphertext fit into the cache of a processor core."""
_BLOCK: Final = 1 << 21
_ALIGN: Final = 1 << 16
"""Output is put in blocks of at least the one, which end at a multiple of the other: a kernel has less work so."""

_SHUT: Final = "the sealed object does not open: its key is another one, or it is damaged"

Bytes = bytes | bytearray | memoryview


class Readable(Protocol):
    """A file to read from, such as ``open(path, "rb")`` or ``io.BytesIO``."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place."""

    def readinto(self, buffer: Any, /) -> int | None:
        """Read up to as many bytes as there is room for."""

    def close(self) -> None:
        """Close it."""


class SealedHeader(NamedTuple):
    """What a sealed object says of itself; to be believed only once it has been opened.

    Attributes
    ----------
    kid : bytes
        Name of the data key, 16 bytes.
    label : str
        What the object is known by, such as its new SOP Instance UID; nothing of the patient.
    """

    kid: bytes
    label: str

    def encoded(self) -> bytes:
        """Return its bytes, the context of the message that follows.

        Raises
        ------
        PolicyError
            If the label is no Unicode text or longer than 1024 bytes.
        """
        try:
            label = self.label.encode()
        except UnicodeEncodeError:
            raise PolicyError("a label must be Unicode text") from None
        if len(label) > _LABEL or len(self.kid) != _KID:
            raise PolicyError(f"a label has at most {_LABEL} bytes, and the name of a data key {_KID}")
        return _MAGIC + self.kid + len(label).to_bytes(2, "big") + label


class Sealer:
    """Encrypt an object piece by piece, in constant memory.

    What is known last, such as an offset table near the beginning, is left out by `hold` and given by `fill`. A chunk
    with such bytes stays in memory and is encrypted by `finish`: encrypting it twice with one nonce would show how
    its two contents differ, and how to forge a tag (SP 800-38D, 8.3).

    Parameters
    ----------
    put : callable
        ``put(data, offset)`` writes all of a buffer, which is used again afterwards. The offsets follow on each
        other but for the chunks with held bytes: those come as zeros first, and again at the end. Once it has
        failed, the output is lost and the sealer of no more use.
    key : DataKey
    label : str
        At most 1024 bytes of UTF-8.

    Raises
    ------
    PolicyError
        If the label cannot be used.

    Examples
    --------
    >>> out = bytearray()
    >>> def put(data, offset):
    ...     out[offset : offset + len(data)] = data
    >>> key = DataKey(bytes(16), bytes(32), "P1")
    >>> sealer = Sealer(put, key, "2.25.1")
    >>> table = sealer.hold(5)
    >>> sealer.write(b", world")
    >>> sealer.fill(table, b"hello")
    >>> sealer.finish()
    >>> open_sealed(io.BytesIO(out), key).read()
    b'hello, world'
    """

    def __init__(self, put: Callable[[memoryview, int], object], key: DataKey, label: str) -> None:
        context = SealedHeader(key.kid, label).encoded()
        # the library's own encryptor is quicker by a quarter, but only counts upwards: it serves until bytes are held
        self._stream: Cobblestone256Encryptor | None = Cobblestone256Encryptor(_checked(key), context)
        prefix = self._stream.update(b"")
        self._cipher = _Cipher(key.secret, prefix[:_SALT], context)
        # output that waits: where it begins in the file, the bytes, how many there are
        self._put, self._at = put, 0
        self._out, self._ready = memoryview(mmap(-1, _BLOCK + _BATCH * _SEALED)), 0
        # the chunk that is being filled: its number, the bytes, how many there are, whether some of them are held
        self._number, self._chunk, self._filled, self._waits = 0, bytearray(_CHUNK), 0, False
        self._held: dict[int, bytearray] = {}
        self._holds: dict[int, int] = {}
        self._append(context + prefix)
        self._start = self._ready

    def write(self, data: Bytes) -> None:
        """Add bytes. Whole chunks of them are encrypted from where they lie."""
        view = memoryview(data).cast("B")
        if self._filled:
            view = view[self._top_up(view) :]
        while len(view) >= _CHUNK:
            whole = min(len(view) // _CHUNK, _BATCH) * _CHUNK
            self._encrypt(view[:whole])
            view = view[whole:]
        self._top_up(view)

    def hold(self, length: int) -> int:
        """Leave room for bytes that are known later; return its place, for `fill`."""
        self._stream = None
        place = self._number * _CHUNK + self._filled
        if length:
            self._holds[place] = length
        while length:
            self._waits = True
            length -= self._advance(length)
        return place

    def fill(self, place: int, data: Bytes) -> None:
        """Give all the bytes for a place.

        Raises
        ------
        PolicyError
            If room was left there for another number of bytes, or for none.
        """
        view = memoryview(data).cast("B")
        if view and self._holds.get(place) != len(view):
            raise PolicyError("the bytes do not fit the place that was held for them")
        if view:
            del self._holds[place]
        while view:
            number, at = divmod(place, _CHUNK)
            count = min(_CHUNK - at, len(view))
            self._held.get(number, self._chunk)[at : at + count] = view[:count]
            place, view = place + count, view[count:]

    def finish(self) -> None:
        """Put what is left.

        Raises
        ------
        PolicyError
            If a place was held and not filled.
        """
        if self._holds:
            raise PolicyError("bytes were held and not filled")
        self._stream = None
        self._encrypt(memoryview(self._chunk)[: self._filled])
        self._drain(self._ready)
        for number in sorted(self._held):
            size = self._cipher.encrypt(number, memoryview(self._held.pop(number)), self._out)
            self._put(self._out[:size], self._start + number * _SEALED)

    def _top_up(self, data: memoryview) -> int:
        """Take into the chunk what fits of the data, and return how much that is."""
        count = min(_CHUNK - self._filled, len(data))
        self._chunk[self._filled : self._filled + count] = data[:count]
        return self._advance(count)

    def _advance(self, length: int) -> int:
        """Count up to so many bytes as filled, and return how many fitted into the chunk."""
        count = min(_CHUNK - self._filled, length)
        self._filled += count
        if self._filled == _CHUNK:
            self._filled = 0
            self._complete()
        return count

    def _complete(self) -> None:
        if not self._waits:
            self._encrypt(memoryview(self._chunk))
            return
        self._held[self._number] = self._chunk
        self._number, self._chunk, self._waits = self._number + 1, bytearray(_CHUNK), False
        self._append(bytes(_SEALED))

    def _encrypt(self, data: memoryview) -> None:
        """Encrypt whole chunks, or the last one."""
        # counted before, so that no failure after it makes a nonce serve twice
        number, self._number = self._number, self._number + (-(-len(data) // _CHUNK) or 1)
        out = self._out[self._ready :]
        if self._stream is not None:
            self._added(self._stream.update_into(data, out))
        else:
            self._added(self._cipher.encrypt(number, data, out))

    def _append(self, data: bytes) -> None:
        self._out[self._ready : self._ready + len(data)] = data
        self._added(len(data))

    def _added(self, size: int) -> None:
        self._ready += size
        if self._ready >= _BLOCK:
            self._drain(self._ready - (self._at + self._ready) % _ALIGN)

    def _drain(self, size: int) -> None:
        """Put that much of the output that waits."""
        self._put(self._out[:size], self._at)
        rest = self._ready - size
        self._out[:rest] = self._out[size : self._ready]
        self._at, self._ready = self._at + size, rest


def seal(source: Readable, target: BinaryIO, key: DataKey, label: str) -> None:
    """Seal what a file holds from where it stands.

    Parameters
    ----------
    source, target : file
        Neither is closed.
    key : DataKey
    label : str
        At most 1024 bytes of UTF-8.

    Raises
    ------
    PolicyError
        If the label cannot be used.
    """
    sealer = Sealer(lambda data, _: _write(target, data), key, label)
    buffer = memoryview(bytearray(_BATCH * _CHUNK))
    while count := source.readinto(buffer):
        sealer.write(buffer[:count])
    sealer.finish()


def seal_file(path_in: str | os.PathLike[str], path_out: str | os.PathLike[str], key: DataKey, label: str) -> None:
    """Seal a file; the output has mode 0600, is on the disk when this returns, and never there in part.

    Parameters
    ----------
    path_in, path_out : path-like
        A file that is there as ``path_out`` is replaced.
    key : DataKey
    label : str
        At most 1024 bytes of UTF-8.

    Raises
    ------
    Quarantined
        NOT_A_FILE, UNREADABLE, CHANGED or TRUNCATED because of the input, DISK because of the output.
    PolicyError
        If the label cannot be used.
    """
    try:
        with Source.open(path_in) as source, whole_file(path_out, replace=True) as fd:
            sealer = Sealer(LargeFile(fd, source.size).put, key, label)
            buffer = memoryview(bytearray(_BATCH * _CHUNK))
            for at in range(0, source.size, len(buffer)):
                part = buffer[: source.size - at]
                source.read_into(part, at)
                sealer.write(part)
            sealer.finish()
            if not source.unchanged():
                raise Quarantined(Reason.CHANGED)
    except OSError as error:
        raise Quarantined(Reason.DISK, f"write failed: {error.strerror}") from None


class SealedReader(io.RawIOBase):
    """The content of a sealed object, as a file of which any part can be read.

    The key and the length of the object are proved before this can be used, and each chunk before a byte of it is
    given. No part of a forged chunk is left in a caller's buffer. Closing this closes the file.

    Parameters
    ----------
    file : Readable
        The sealed object from its beginning. It must not be changed or moved meanwhile by others.
    header : SealedHeader
    key : DataKey

    Raises
    ------
    VaultError
        Here and from every read: wrong key or damage, or the file cannot be read.
    """

    def __init__(self, file: Readable, header: SealedHeader, key: DataKey) -> None:
        super().__init__()
        self._file, self._at, self._name = file, 0, header.label
        context = header.encoded()
        prefix = _fetch(file, len(context), memoryview(bytearray(_PREFIX)))
        self._cipher = _Cipher(_checked(key), bytes(prefix[:_SALT]), context)
        if key.kid != header.kid or not hmac.compare_digest(self._cipher.commitment, prefix[_SALT:]):
            raise VaultError(_SHUT)
        self._start = len(context) + _PREFIX
        self._last, rest = divmod(_size(file) - self._start, _SEALED)
        if self._last < 0 or rest < _TAG:
            raise VaultError(_SHUT)
        self._size = self._last * _CHUNK + rest - _TAG
        self._sealed = memoryview(bytearray(_BATCH * _SEALED))
        self._chunk, self._loaded = memoryview(bytearray(_CHUNK)), -1
        self._load(self._last)

    @property
    def name(self) -> str:
        """The label; pydicom takes it for the name of the file."""
        return self._name

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place, counted from the beginning, from here or from the end."""
        at = offset + (0, self._at, self._size)[whence]
        if at < 0:
            raise ValueError("a place before the beginning")
        self._at = at
        return at

    def readinto(self, buffer: Any, /) -> int:
        """Read to a buffer: whole chunks at once, or up to the end of the chunk."""
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._at)]
        number, at = divmod(self._at, _CHUNK)
        whole = min(len(view) // _CHUNK, _BATCH) * _CHUNK
        if whole and not at:
            view = view[:whole]
            self._decrypt(number, view)
        elif view:
            self._load(number)
            view = view[: _CHUNK - at]
            view[:] = self._chunk[at : at + len(view)]
        self._at += len(view)
        return len(view)

    def readall(self) -> bytes:
        """Read all that is left."""
        # getvalue gives what was written without a copy; bytes(bytearray) would need the memory twice
        out = io.BytesIO(bytes(max(0, self._size - self._at)))
        with out.getbuffer() as view:
            done = 0
            while count := self.readinto(view[done:]):
                done += count
        return out.getvalue()

    def close(self) -> None:
        """Close the file too, and forget what was decrypted last."""
        if not self.closed:
            self._chunk[:], self._loaded = bytes(_CHUNK), -1
            self._file.close()
        super().close()

    def _load(self, number: int) -> None:
        if number != self._loaded:
            self._loaded = -1
            self._decrypt(number, self._chunk[: min(_CHUNK, self._size - number * _CHUNK)])
            self._loaded = number

    def _decrypt(self, number: int, out: memoryview) -> None:
        size = len(out) + _TAG * (-(-len(out) // _CHUNK) or 1)
        sealed = _fetch(self._file, self._start + number * _SEALED, self._sealed[:size])
        self._cipher.decrypt(number, sealed, out)


def read_header(file: Readable) -> SealedHeader:
    """Read what a sealed object says of itself.

    Parameters
    ----------
    file : Readable
        The sealed object from its beginning.

    Raises
    ------
    VaultError
        If it is no sealed object, or cannot be read.
    """
    fixed = bytes(_fetch(file, 0, memoryview(bytearray(_FIXED))))
    if not fixed.startswith(_MAGIC):
        raise VaultError("this is no sealed object, or one of a format that this version does not know")
    length = int.from_bytes(fixed[-2:], "big")
    if length > _LABEL:
        raise VaultError(_SHUT)
    label = bytes(_fetch(file, _FIXED, memoryview(bytearray(length))))
    try:
        return SealedHeader(fixed[len(_MAGIC) : -2], label.decode())
    except UnicodeDecodeError:
        raise VaultError(_SHUT) from None


def open_sealed(
    source: str | os.PathLike[str] | Readable,
    keys: DataKey | Callable[[SealedHeader], DataKey],
    label: str | None = None,
) -> io.BufferedReader:
    """Open a sealed object as a file that pydicom and others read.

    Parameters
    ----------
    source : path-like or Readable
        A file that is given is closed together with what is returned, but left open if it cannot be opened.
    keys : DataKey or callable
        The key, or what finds it for a header; raises `VaultError` if there is none.
    label : str, optional
        The label that the object must have, so that one cannot be passed off as another.

    Raises
    ------
    VaultError
        Wrong key or damage, another label, or the file cannot be read.
    """
    file = _opened(source) if isinstance(source, str | os.PathLike) else source
    try:
        header = read_header(file)
        if label is not None and header.label != label:
            raise VaultError("the sealed object has another label than it should have")
        key = keys if isinstance(keys, DataKey) else keys(header)
        return io.BufferedReader(SealedReader(file, header, key), _CHUNK)
    except BaseException:
        if file is not source:
            file.close()
        raise


class _Cipher:
    """The keys of one message, from "Key derivation" of c2sp.org/chunked-encryption, and its chunks."""

    def __init__(self, secret: bytes, salt: bytes, context: bytes) -> None:
        keys = HKDFExpand(SHA512(), 76, _INFO + salt + context).derive(secret)
        self._aead, self._nonce, self.commitment = AESGCM(keys[:32]), int.from_bytes(keys[32:44], "big"), keys[44:]

    def encrypt(self, number: int, data: memoryview, out: memoryview) -> int:
        """Encrypt chunks that follow on each other; return how many bytes they have now."""
        encrypt, nonce, end = self._aead.encrypt_into, self._nonce, 0
        for start in range(0, len(data) or 1, _CHUNK):
            chunk = data[start : start + _CHUNK]
            at, end = end, end + len(chunk) + _TAG
            encrypt((nonce ^ number).to_bytes(12, "big"), chunk, None, out[at:end])
            number += 1
        return end

    def decrypt(self, number: int, data: memoryview, out: memoryview) -> None:
        """Decrypt chunks that follow on each other, all of them or none."""
        decrypt, nonce, end = self._aead.decrypt_into, self._nonce, 0
        try:
            for start in range(0, len(data), _SEALED):
                chunk = data[start : start + _SEALED]
                at, end = end, end + len(chunk) - _TAG
                decrypt((nonce ^ number).to_bytes(12, "big"), chunk, None, out[at:end])
                number += 1
        except InvalidTag:
            # decrypt_into leaves behind what it decrypted before it came to the tag
            out[:] = bytes(len(out))
            raise VaultError(_SHUT) from None


def _checked(key: DataKey) -> bytes:
    if len(key.secret) != 32:
        raise VaultError("a data key has 32 bytes")
    return key.secret


def _opened(path: str | os.PathLike[str]) -> io.FileIO:
    try:
        # a FIFO would block an ordinary open until somebody writes to it; with this it fails when it is read
        return io.FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except (OSError, ValueError) as error:
        raise VaultError(f"open failed: {getattr(error, 'strerror', None) or 'no such name is possible'}") from None


def _size(file: Readable) -> int:
    try:
        return file.seek(0, os.SEEK_END)
    except OSError as error:
        raise VaultError(f"read failed: {error.strerror}") from None


def _fetch(file: Readable, at: int, buffer: memoryview) -> memoryview:
    """Fill a buffer from a place of a file, and return it."""
    left = buffer
    try:
        file.seek(at)
        while left and (count := file.readinto(left)):
            left = left[count:]
    except OSError as error:
        raise VaultError(f"read failed: {error.strerror}") from None
    if left:
        raise VaultError(_SHUT)
    return buffer


def _write(target: BinaryIO, data: memoryview) -> None:
    while data:
        data = data[target.write(data) :]
