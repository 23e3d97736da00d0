"""Sealed objects against vectors, other implementations and attackers (c2sp.org/chunked-encryption@v1)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import random
import shutil
import stat
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from factories import ROOT, ct, encoded, shared
from hypothesis import given
from hypothesis import strategies as st

from dicomshield import Quarantined, Reason
from dicomshield.errors import PolicyError, VaultError
from dicomshield.vault import container
from dicomshield.vault.container import SealedHeader, SealedReader, Sealer, open_sealed, read_header, seal, seal_file
from dicomshield.vault.files import LargeFile
from dicomshield.vault.keys import DataKey

CHUNK, TAG = 16384, 16
KEY = DataKey(bytes(range(16)), bytes(range(32)), "P000")
LABEL = "2.25.123456789"
BODY = 26 + len(LABEL) + 56
"""Where the first chunk begins."""
BORDERS = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 5, 32 * CHUNK, 33 * CHUNK + 7, 80 * CHUNK)


def content(size: int) -> bytes:
    """Return bytes of which no two chunks are alike."""
    return random.Random(size).randbytes(size)  # noqa: S311


def sealed(data: bytes, key: DataKey = KEY, label: str = LABEL) -> bytes:
    out = io.BytesIO()
    seal(io.BytesIO(data), out, key, label)
    return out.getvalue()


def opened(data: bytes, key: DataKey = KEY, label: str | None = None) -> bytes:
    with open_sealed(io.BytesIO(data), key, label) as file:
        return file.read()


def native(data: bytes, context: int = BODY - 56) -> bytes:
    """Decrypt with the implementation of the cryptography package."""
    reader = Cobblestone256Decryptor(KEY.secret, data[:context])
    return reader.update(data[context:]) + reader.finalize()


def collected(writes: dict[int, bytes]) -> Callable[[memoryview, int], None]:
    """Return a target that keeps the last write of each place."""

    def put(data: memoryview, offset: int) -> None:
        writes[offset] = bytes(data)

    return put


def patched(out: bytearray) -> Callable[[memoryview, int], None]:
    """Return a target like a file that is written with pwrite."""

    def put(data: memoryview, offset: int) -> None:
        assert offset <= len(out)
        out[offset : offset + len(data)] = data

    return put


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def descriptors() -> int:
    """Return how many descriptors are open, where that can be told."""
    folder = Path("/proc/self/fd")
    return len(names(folder)) if folder.is_dir() else 0


class Watched(io.BytesIO):
    """A file that counts the bytes read from it."""

    taken = 0

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer)
        self.taken += count
        return count


class TestVectors:
    """Wycheproof's vectors for Cobblestone-256."""

    @staticmethod
    def vectors() -> list[dict[str, Any]]:
        path = shared() / "vectors" / "cobblestone256_wycheproof.json"
        return [test for group in json.loads(path.read_text())["testGroups"] for test in group["tests"]]

    @staticmethod
    def reader(test: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> SealedReader:
        context = bytes.fromhex(test["ctx"])
        monkeypatch.setattr(SealedHeader, "encoded", lambda _: context)
        file = io.BytesIO(context + zlib.decompress(bytes.fromhex(test["ct"])))
        key = KEY._replace(secret=bytes.fromhex(test["key"]))
        return SealedReader(file, SealedHeader(KEY.kid, ""), key)

    def test_valid_ones_open_as_a_stream_and_in_any_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tests = [test for test in self.vectors() if test["result"] == "valid"]
        assert len(tests) == 10
        for test in tests:
            reader = self.reader(test, monkeypatch)
            whole = reader.readall()
            assert (len(whole), hashlib.sha512(whole).hexdigest()) == (test["msgLength"], test["msgSha512"])
            starts = list(range(0, len(whole), 5000))
            random.Random(1).shuffle(starts)  # noqa: S311
            for start in starts:
                reader.seek(start)
                assert reader.read(5000) == whole[start : start + 5000][: reader.tell() - start]

    def test_valid_ones_are_written_again_byte_for_byte(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for test in self.vectors():
            if test["result"] != "valid":
                continue
            whole = self.reader(test, monkeypatch).readall()
            message, out = zlib.decompress(bytes.fromhex(test["ct"])), bytearray()
            with monkeypatch.context() as patch:
                given_salt = SimpleNamespace(update=lambda _, message=message: message[:56])
                patch.setattr(container, "Cobblestone256Encryptor", lambda *_, given_salt=given_salt: given_salt)
                sealer = Sealer(patched(out), KEY._replace(secret=bytes.fromhex(test["key"])), "")
            sealer.fill(sealer.hold(0), b"")
            sealer.write(whole)
            sealer.finish()
            assert out == bytes.fromhex(test["ctx"]) + message

    def test_invalid_ones_fail_when_opened_unless_only_their_middle_is_wrong(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tests = [test for test in self.vectors() if test["result"] == "invalid"]
        assert len(tests) == 25
        for test in tests:
            if "ValidFinalChunk" not in test["flags"]:
                with pytest.raises(VaultError):
                    self.reader(test, monkeypatch)
                continue
            reader = self.reader(test, monkeypatch)
            good = reader.read(test["msgLength"]) if "PartialPlaintext" in test["flags"] else b""
            assert not good or hashlib.sha512(good).hexdigest() == test["msgSha512"]
            for _ in range(2):
                with pytest.raises(VaultError):
                    reader.readall()


class TestOthers:
    """What is written here opens elsewhere, and the other way round."""

    @pytest.mark.parametrize("size", BORDERS)
    def test_the_cryptography_package_reads_and_writes_it(self, size: int) -> None:
        data = content(size)
        assert native(sealed(data)) == data
        context = sealed(b"")[: BODY - 56]
        writer = Cobblestone256Encryptor(KEY.secret, context)
        assert opened(context + writer.update(data) + writer.finalize()) == data

    @pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK - 1, 300 * CHUNK + 5])
    def test_forty_lines_of_node_read_it(self, size: int, tmp_path: Path) -> None:
        node = shutil.which("node")
        if node is None:
            pytest.skip("node is not installed")
        script, path = ROOT / "tests" / "cobblestone.mjs", tmp_path / "object"
        assert len(script.read_text().splitlines()) <= 40
        path.write_bytes(sealed(content(size)))
        run = [node, str(script), str(path)]
        done = subprocess.run(run, input=KEY.secret.hex().encode(), capture_output=True, check=True)
        assert done.stdout == content(size)
        assert subprocess.run(run, input=bytes(32).hex().encode(), capture_output=True, check=False).returncode

    def test_the_layout_is_that_of_the_document(self) -> None:
        data = sealed(content(CHUNK + 3))
        assert data[:26] == b"DCMSHLD1" + KEY.kid + b"\x00\x0e"
        assert data[26:40] == LABEL.encode()
        assert len(data) == 40 + 24 + 32 + (CHUNK + TAG) + (3 + TAG)
        assert read_header(io.BytesIO(data)) == (KEY.kid, LABEL)
        assert sealed(content(CHUNK + 3))[40:64] != data[40:64]


class TestSealer:
    """Writing in pieces, and what is known last."""

    @given(st.lists(st.sampled_from((0, 1, 7, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 40 * CHUNK)), max_size=12))
    def test_pieces_make_the_same_object_as_a_whole(self, sizes: list[int]) -> None:
        out, data = bytearray(), content(sum(sizes))
        sealer, at = Sealer(patched(out), KEY, LABEL), 0
        for size in sizes:
            sealer.write(data[at : at + size])
            at += size
        sealer.finish()
        assert native(bytes(out)) == data

    @given(
        st.lists(
            st.tuples(st.booleans(), st.sampled_from((0, 1, 7, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 40 * CHUNK))),
            max_size=10,
        ),
        st.randoms(use_true_random=False),
    )
    def test_held_bytes_come_where_they_belong(self, pieces: list[tuple[bool, int]], chance: random.Random) -> None:
        out, data, at, later = bytearray(), content(sum(size for _, size in pieces)), 0, []
        sealer = Sealer(patched(out), KEY, LABEL)
        for held, size in pieces:
            part = data[at : at + size]
            at += size
            if held:
                later.append((sealer.hold(size), part))
            else:
                sealer.write(part)
        chance.shuffle(later)
        for place, part in later:
            sealer.fill(place, part)
        sealer.finish()
        assert native(bytes(out)) == data

    def test_no_chunk_is_encrypted_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One nonce for two contents gives both away, and the key of the tags (SP 800-38D, 8.3)."""
        nonces: list[bytes] = []
        streamed: list[int] = []

        class Recorder:
            def __init__(self, key: bytes) -> None:
                self.aead = AESGCM(key)

            def encrypt_into(self, nonce: bytes, *rest: Any) -> int:
                nonces.append(nonce)
                return self.aead.encrypt_into(nonce, *rest)

        class Stream:
            def __init__(self, *arguments: bytes) -> None:
                self.stream = Cobblestone256Encryptor(*arguments)
                self.update = self.stream.update

            def update_into(self, data: memoryview, out: memoryview) -> int:
                streamed.append(len(data))
                return self.stream.update_into(data, out)

        monkeypatch.setattr(container, "AESGCM", Recorder)
        monkeypatch.setattr(container, "Cobblestone256Encryptor", Stream)
        writes: dict[int, bytes] = {}
        sealer = Sealer(collected(writes), KEY, LABEL)
        sealer.write(content(50 * CHUNK + 100))
        place = sealer.hold(2 * CHUNK)
        sealer.write(content(90 * CHUNK))
        assert sum(streamed) == 50 * CHUNK
        assert len(nonces) == 90 - 1
        sealer.fill(place, content(2 * CHUNK))
        assert len(nonces) == 90 - 1
        sealer.finish()
        assert len(nonces) == len(set(nonces)) == 90 + 3
        assert [at for at in writes if (at - BODY) % (CHUNK + TAG) == 0] == [
            BODY + number * (CHUNK + TAG) for number in (50, 51, 52)
        ]

    def test_no_nonce_is_used_again_when_writing_failed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nonces: list[int] = []
        encrypt = container._Cipher.encrypt

        def recorded(self: Any, number: int, data: memoryview, out: memoryview) -> int:
            nonces.extend(range(number, number + (-(-len(data) // CHUNK) or 1)))
            return encrypt(self, number, data, out)

        def full(_data: memoryview, _offset: int) -> None:
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(container._Cipher, "encrypt", recorded)
        sealer = Sealer(full, KEY, LABEL)
        sealer.hold(0)
        with pytest.raises(OSError, match="full"):
            sealer.write(bytes(160 * CHUNK))
        # a caller who goes on all the same
        for size in (160 * CHUNK + 1, 40 * CHUNK, CHUNK - 1):
            with contextlib.suppress(OSError, ValueError):
                sealer.write(bytes(size))
        with contextlib.suppress(OSError, ValueError):
            sealer.finish()
        assert len(nonces) == len(set(nonces)) > 64

    def test_held_bytes_are_given_once_and_all_of_them(self) -> None:
        sealer = Sealer(patched(bytearray()), KEY, LABEL)
        place = sealer.hold(4)
        for wrong in (b"123", b"12345"):
            with pytest.raises(PolicyError):
                sealer.fill(place, wrong)
        with pytest.raises(PolicyError):
            sealer.fill(place + 1, b"1")
        with pytest.raises(PolicyError, match="not filled"):
            sealer.finish()
        sealer.fill(place, b"1234")
        with pytest.raises(PolicyError):
            sealer.fill(place, b"1234")
        sealer.finish()

    def test_writes_are_few_and_in_order(self) -> None:
        """Small pieces are gathered, and nothing is put twice but held chunks."""
        writes: dict[int, bytes] = {}
        sealer = Sealer(collected(writes), KEY, LABEL)
        for _ in range(4000):
            sealer.write(bytes(1000))
        sealer.finish()
        assert list(writes) == sorted(writes)
        assert all(at + len(writes[at]) == after for at, after in pairwise(writes))
        assert all(at % 65536 == 0 for at in writes)
        assert len(writes) <= 9

    def test_memory_is_constant(self) -> None:
        part = bytes(1 << 20)
        tracemalloc.start()
        try:
            sealer = Sealer(lambda *_: None, KEY, LABEL)
            for _ in range(64):
                sealer.write(part)
            sealer.finish()
            assert tracemalloc.get_traced_memory()[1] < 2 << 20
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("label", ["x" * 1025, "ü" * 513, "\ud800"])
    def test_a_label_is_short_text(self, label: str) -> None:
        with pytest.raises(PolicyError):
            sealed(b"", label=label)

    @pytest.mark.parametrize("label", ["", "x" * 1024, "ü" * 512, "a\0b"])
    def test_any_short_text_is_a_label(self, label: str) -> None:
        assert opened(sealed(b"data", label=label), label=label) == b"data"

    @pytest.mark.parametrize("key", [KEY._replace(secret=bytes(31)), KEY._replace(secret=bytes(33))])
    def test_a_key_has_32_bytes(self, key: DataKey) -> None:
        with pytest.raises(VaultError, match="32 bytes"):
            sealed(b"", key)
        with pytest.raises(VaultError, match="32 bytes"):
            opened(sealed(b""), key)

    def test_the_name_of_a_key_has_16_bytes(self) -> None:
        with pytest.raises(PolicyError):
            sealed(b"", KEY._replace(kid=bytes(15)))


class TestReader:
    """A sealed object as a file."""

    @given(
        st.sampled_from(BORDERS),
        st.lists(st.tuples(st.integers(0, 3), st.integers(-40 * CHUNK, 90 * CHUNK), st.integers(-1, 60 * CHUNK))),
    )
    def test_it_reads_like_any_other_file(self, size: int, steps: list[tuple[int, int, int]]) -> None:
        data = content(size)
        plain = io.BytesIO(data)
        with open_sealed(io.BytesIO(_SEALED[size]), KEY) as file:
            for whence, offset, count in steps:
                if whence < 3 and offset + (0, plain.tell(), size)[whence] >= 0:
                    assert file.seek(offset, whence) == plain.seek(offset, whence)
                assert file.read(count) == plain.read(count)
                assert file.tell() == plain.tell()

    @pytest.mark.parametrize("size", BORDERS)
    def test_the_raw_reader_reads_like_one_too(self, size: int) -> None:
        data = content(size)
        header = SealedHeader(KEY.kid, LABEL)
        with SealedReader(io.BytesIO(_SEALED[size]), header, KEY) as reader:
            assert (reader.readable(), reader.seekable(), reader.writable()) == (True, True, False)
            assert reader.readall() == data
            assert reader.readall() == reader.read(1) == b""
            assert reader.seek(size + 5) == reader.tell() == size + 5
            assert reader.readall() == reader.read(1) == b""
            with pytest.raises(ValueError, match="before"):
                reader.seek(-1)

    def test_pydicom_decrypts_only_the_chunks_it_needs(self) -> None:
        ds = ct(rows=512, columns=512, NumberOfFrames=16)
        ds.PixelData = content(16 * 512 * 512 * 2)
        plain = encoded(ds)
        file = Watched(sealed(plain))
        with open_sealed(file, KEY, LABEL) as reader:
            assert file.taken <= BODY + CHUNK + TAG
            header = pydicom.dcmread(reader, stop_before_pixels=True)
            assert (header.SOPInstanceUID, "PixelData" in header) == (ds.SOPInstanceUID, False)
            assert header.filename == reader.name == LABEL
            assert file.taken <= BODY + 2 * (CHUNK + TAG)
            file.taken, start = 0, len(plain) - len(ds.PixelData) + 5 * 524288
            reader.seek(start)
            assert reader.read(524288) == plain[start : start + 524288]
            assert file.taken <= 34 * (CHUNK + TAG)
            reader.seek(0)
            assert pydicom.dcmread(reader) == pydicom.dcmread(io.BytesIO(plain))

    def test_closing_closes_the_file_and_a_failed_opening_only_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "object").write_bytes(sealed(b"data"))
        file = (tmp_path / "object").open("rb")
        with pytest.raises(VaultError):
            open_sealed(file, KEY._replace(secret=bytes(32)))
        assert not file.closed
        open_sealed(file, KEY).close()
        assert file.closed
        with open_sealed(tmp_path / "object", KEY) as reader:
            assert reader.read() == b"data"
        before = descriptors()
        with pytest.raises(VaultError):
            open_sealed(tmp_path / "object", KEY._replace(secret=bytes(32)))
        assert descriptors() == before

    def test_the_key_is_looked_up_by_the_header(self) -> None:
        asked = []

        def keys(header: SealedHeader) -> DataKey:
            asked.append(header)
            if len(asked) > 1:
                raise VaultError("no such key")
            return KEY

        with open_sealed(io.BytesIO(sealed(b"data")), keys) as reader:
            assert reader.read() == b"data"
        with pytest.raises(VaultError, match="no such key"):
            open_sealed(io.BytesIO(sealed(b"data")), keys)
        assert asked == [(KEY.kid, LABEL)] * 2

    def test_what_is_no_regular_file_is_refused(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        for path in (tmp_path, tmp_path / "missing", tmp_path / "fifo", Path("/dev/zero"), "nul\0byte"):
            with pytest.raises(VaultError) as caught:
                open_sealed(path, KEY)
            assert tmp_path.name not in str(caught.value)

    def test_a_disk_error_is_typed(self) -> None:
        class Broken(io.BytesIO):
            broken = False

            def readinto(self, buffer: Any, /) -> int:
                if self.broken:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                return super().readinto(buffer)

        file = Broken(sealed(content(9 * CHUNK)))
        reader = open_sealed(file, KEY)
        file.broken = True
        with pytest.raises(VaultError, match="read failed"):
            reader.read(5)


_SEALED = {size: sealed(content(size)) for size in BORDERS}


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _chunks(data: bytes) -> list[bytes]:
    return [data[at : at + CHUNK + TAG] for at in range(BODY, len(data), CHUNK + TAG)]


class TestAttacks:
    """Whatever is changed: nothing of it is given out."""

    WHOLE = sealed(content(3 * CHUNK + 100))

    @pytest.mark.parametrize("size", [CHUNK, 3 * CHUNK + 100])
    def test_every_shorter_file_is_refused_when_opened(self, size: int) -> None:
        data = sealed(content(size))
        lengths = {*range(BODY + 40), *range(0, len(data), 997), *range(len(data) - 40, len(data))}
        lengths |= {BODY + number * (CHUNK + TAG) + more for number in range(4) for more in (-1, 0, 1, TAG, TAG + 1)}
        for length in lengths:
            if length < len(data):
                with pytest.raises(VaultError):
                    open_sealed(io.BytesIO(data[:length]), KEY)

    @pytest.mark.parametrize("more", [b"\0", bytes(TAG), bytes(CHUNK), WHOLE[-116:], WHOLE[BODY : BODY + CHUNK + TAG]])
    def test_every_longer_file_is_refused_when_opened(self, more: bytes) -> None:
        for size in (0, 100, CHUNK):
            with pytest.raises(VaultError):
                open_sealed(io.BytesIO(sealed(content(size)) + more), KEY)

    def test_every_edit_of_the_header_is_refused_when_opened(self) -> None:
        for at in range(BODY):
            for bit in range(8):
                data = bytearray(self.WHOLE)
                data[at] ^= 1 << bit
                with pytest.raises(VaultError):
                    open_sealed(io.BytesIO(data), KEY)

    def test_the_name_of_the_key_and_the_label_are_bound(self) -> None:
        other = KEY._replace(kid=bytes(16))
        with pytest.raises(VaultError):
            opened(self.WHOLE[:8] + other.kid + self.WHOLE[24:], other)
        with pytest.raises(VaultError):
            opened(self.WHOLE, other)
        with pytest.raises(VaultError):
            opened(self.WHOLE.replace(LABEL.encode(), LABEL[:-1].encode() + b"0"))
        shorter = self.WHOLE[:24] + len(LABEL[:-1]).to_bytes(2, "big") + self.WHOLE[26:]
        with pytest.raises(VaultError):
            opened(shorter)

    def test_an_object_under_the_name_of_another_is_refused(self) -> None:
        assert opened(self.WHOLE, label=LABEL) == content(3 * CHUNK + 100)
        for label in ("", "2.25.1", LABEL + "0"):
            with pytest.raises(VaultError, match="label"):
                opened(self.WHOLE, label=label)

    @pytest.mark.parametrize(
        "order", [(1, 0, 2, 3), (0, 0, 2, 3), (0, 2, 3), (0, 1, 1, 2, 3), (0, 1, 3, 2), (3,), (0,)]
    )
    def test_chunks_in_another_order_are_refused(self, order: tuple[int, ...]) -> None:
        chunks = _chunks(self.WHOLE)
        with pytest.raises(VaultError):
            opened(self.WHOLE[:BODY] + b"".join(chunks[number] for number in order))

    def test_chunks_of_another_object_are_refused(self) -> None:
        own, others = _chunks(self.WHOLE), _chunks(sealed(content(3 * CHUNK + 100)))
        for number in range(4):
            mixed = [*own[:number], others[number], *own[number + 1 :]]
            with pytest.raises(VaultError):
                opened(self.WHOLE[:BODY] + b"".join(mixed))

    def test_a_wrong_key_looks_like_damage(self) -> None:
        messages = set()
        broken = (self.WHOLE[:-1], _flipped(self.WHOLE, BODY), _flipped(self.WHOLE, len(self.WHOLE) - 1), self.WHOLE)
        for data in broken:
            with pytest.raises(VaultError) as caught:
                opened(data, KEY._replace(secret=bytes(32)) if data is self.WHOLE else KEY)
            messages.add(str(caught.value))
            assert caught.value.__cause__ is None
        assert len(messages) == 1

    @pytest.mark.parametrize("broken", range(4))
    @pytest.mark.parametrize("start", [0, 100])
    def test_forged_bytes_are_not_left_in_buffers(self, broken: int, start: int) -> None:
        """The cryptography package leaves what it decrypted before it found the tag wrong."""
        left = bytearray(16)
        with pytest.raises(InvalidTag):
            AESGCM(bytes(32)).decrypt_into(bytes(12), bytes(32), None, left)
        data = content(5 * CHUNK)
        forged = bytearray(sealed(data))
        forged[BODY + broken * (CHUNK + TAG)] ^= 1
        reader = SealedReader(io.BytesIO(forged), SealedHeader(KEY.kid, LABEL), KEY)
        buffer, at = bytearray(b"\xff" * len(data)), reader.seek(start)

        def read() -> None:
            nonlocal at
            while count := reader.readinto(memoryview(buffer)[at:]):
                at += count

        with pytest.raises(VaultError):
            read()
        assert at <= max(start, broken * CHUNK)
        assert buffer[start:at] == data[start:at]
        assert set(buffer[at:]) <= {0, 0xFF}
        reader.seek(broken * CHUNK + 50)
        with pytest.raises(VaultError):
            reader.read(100)
        assert data[broken * CHUNK + 50 :][:16] not in bytes(reader._chunk)
        for _ in range(2):
            reader.seek(4 * CHUNK - 5 if broken < 3 else 5)
            assert reader.read(5) == (data[4 * CHUNK - 5 :][:5] if broken < 3 else data[5:10])
            reader.seek(broken * CHUNK + 50)
            with pytest.raises(VaultError):
                reader.read(100)
        reader.seek(4 * CHUNK)
        assert reader.readall() == data[4 * CHUNK :]

    def test_a_file_that_shrinks_while_it_is_read_is_refused(self) -> None:
        file = io.BytesIO(sealed(content(9 * CHUNK)))
        reader = open_sealed(file, KEY)
        file.truncate(BODY + 100)
        with pytest.raises(VaultError):
            reader.read(10)

    @pytest.mark.parametrize("size", [0, BODY - 10, BODY, BODY + 5, BODY + TAG, BODY + CHUNK + TAG])
    def test_a_file_that_shrinks_while_it_is_opened_is_refused(self, size: int) -> None:
        class Shrinking(io.BytesIO):
            def seek(self, offset: int, whence: int = 0, /) -> int:
                return size if whence else super().seek(offset)

        with pytest.raises(VaultError):
            open_sealed(Shrinking(self.WHOLE), KEY)

    def test_a_header_is_read_only_if_one_could_have_been_written(self) -> None:
        for label, length in ((b"x" * 1025, 1025), (b"\xff", 1), (b"\xed\xa0\x80", 3), (b"", 1)):
            header = b"DCMSHLD1" + KEY.kid + length.to_bytes(2, "big") + label
            with pytest.raises(VaultError):
                read_header(io.BytesIO(header))
        for magic in (b"DCMSHLD2", b"dcmshld1", b"\0" * 128 + b"DICM"):
            with pytest.raises(VaultError, match="no sealed object"):
                read_header(io.BytesIO(magic + bytes(200)))

    def test_mutations_give_typed_errors_or_the_content(self) -> None:
        assert fuzz(3000, 1)["refused"] > 2500


def fuzz(count: int, seed: int) -> dict[str, int]:
    """Open mutated objects; each is refused, or gives what was sealed. ``100_000`` take a minute or two."""
    chance, seen = random.Random(seed), {"refused": 0, "same": 0}  # noqa: S311
    originals = {size: sealed(content(size), label="x" * (size % 30)) for size in (0, 1, 50, 300, CHUNK, CHUNK + 9)}
    for _ in range(count):
        # mostly small ones: a large one has its borders mutated less often
        size = chance.choice((0, 1, 50, 50, 300, 300, CHUNK, CHUNK + 9))
        data = originals[size]
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            data = chance.choice(_MUTATIONS)(chance, data)
        try:
            read_header(io.BytesIO(data))
            with open_sealed(io.BytesIO(data), KEY) as file:
                file.seek(chance.randrange(size + 1))
                file.seek(0)
                assert file.read() == content(size)
        except VaultError:
            seen["refused"] += 1
            assert data != originals[size]
        else:
            seen["same"] += 1
            assert data == originals[size]
    return seen


def _flip(chance: random.Random, data: bytes) -> bytes:
    return _flipped(data, chance.randrange(min(len(data), chance.choice((30, 120, len(data))) or 1))) if data else b"\0"


def _set(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice((b"\0", b"\xff", b"\x80\0", chance.randbytes(8))) + data[at + 1 :]


def _remove(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at + chance.choice((1, 2, TAG, CHUNK + TAG)) :]


def _repeat(chance: random.Random, data: bytes) -> bytes:
    start, stop = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return data[:stop] + data[start:stop] + data[stop:]


def _cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _relabel(chance: random.Random, data: bytes) -> bytes:
    return data[:24] + chance.choice((0, 1, 29, 1024, 1025, 65535)).to_bytes(2, "big") + data[26:]


_MUTATIONS = (_flip, _flip, _set, _remove, _repeat, _cut, _relabel)


class TestFiles:
    """`seal_file`: whole, on the disk, readable by its owner only, or not there."""

    @staticmethod
    def folder(tmp_path: Path) -> tuple[Path, Path]:
        source = tmp_path / "in"
        source.write_bytes(content(400 * CHUNK))
        (tmp_path / "out").mkdir()
        return source, tmp_path / "out" / "object"

    def test_it_seals_and_replaces(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source, target = self.folder(tmp_path)
        synced = []
        sync = os.fsync

        def fsync(fd: int) -> None:
            synced.append(stat.S_IFMT(os.fstat(fd).st_mode))
            sync(fd)

        monkeypatch.setattr(os, "fsync", fsync)
        old = os.umask(0)
        try:
            for label in ("first", "second"):
                seal_file(source, target, KEY, label)
        finally:
            os.umask(old)
        assert synced == [stat.S_IFREG, stat.S_IFDIR] * 2
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert names(target.parent) == ["object"]
        with open_sealed(target, KEY, "second") as file:
            assert file.read() == content(400 * CHUNK)

    @pytest.mark.parametrize("fails", range(1, 5))
    def test_a_full_disk_leaves_what_was_there(
        self, fails: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source, target = self.folder(tmp_path)
        target.write_bytes(b"old")
        calls, put = 0, LargeFile.put

        def write(file: LargeFile, data: memoryview, at: int) -> None:
            nonlocal calls
            calls += 1
            if calls == fails:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            put(file, data, at)

        def fsync(_fd: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(LargeFile, "put", write)
        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(Quarantined) as caught:
            seal_file(source, target, KEY, LABEL)
        assert caught.value.reason is Reason.DISK
        assert "No space left" in caught.value.detail
        assert (names(target.parent), target.read_bytes()) == (["object"], b"old")

    def test_a_source_that_changes_is_not_sealed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source, target = self.folder(tmp_path)
        put = LargeFile.put

        def changed(file: LargeFile, data: memoryview, at: int) -> None:
            os.utime(source, (1, 1))
            put(file, data, at)

        monkeypatch.setattr(LargeFile, "put", changed)
        with pytest.raises(Quarantined) as caught:
            seal_file(source, target, KEY, LABEL)
        assert caught.value.reason is Reason.CHANGED
        assert names(target.parent) == []

    def test_what_cannot_be_read_or_written_is_said_without_its_name(self, tmp_path: Path) -> None:
        source, target = self.folder(tmp_path)
        for path_in, path_out, reason in (
            (tmp_path / "missing", target, Reason.UNREADABLE),
            (tmp_path, target, Reason.NOT_A_FILE),
            (source, tmp_path / "nowhere" / "object", Reason.DISK),
            (source, target.parent, Reason.DISK),
        ):
            with pytest.raises(Quarantined) as caught:
                seal_file(path_in, path_out, KEY, LABEL)
            assert caught.value.reason is reason
            assert tmp_path.name not in str(caught.value)
        assert names(target.parent) == []
        assert names(tmp_path) == ["in", "out"]


class TestLargeFiles:
    """Past the page cache: the same bytes, whatever the file system says to it."""

    SIZE = 9 << 20

    def sealed_to(self, path: Path, data: bytes) -> None:
        """Seal with bytes that come last, in the middle of the file."""
        with path.open("wb") as file:
            sealer = Sealer(LargeFile(file.fileno(), len(data)).put, KEY, LABEL)
            sealer.write(data[:5_000_000])
            place = sealer.hold(70_000)
            sealer.write(data[5_070_000:])
            sealer.fill(place, data[5_000_000:5_070_000])
            sealer.finish()

    @pytest.mark.parametrize("refused", [None, 0, 1, 3])
    def test_what_is_written_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int | None
    ) -> None:
        """A file system may refuse at any block; the cache takes over from there."""
        flag = getattr(os, "O_DIRECT", 0)
        pwrite, direct = os.pwrite, []

        def picky(fd: int, data: memoryview, at: int) -> int:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & flag:
                assert at % 4096 == len(data) % 4096 == 0
                direct.append(at)
                if refused is not None and len(direct) > refused:
                    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return pwrite(fd, data, at)

        monkeypatch.setattr(os, "pwrite", picky)
        data = content(self.SIZE)
        self.sealed_to(tmp_path / "out", data)
        assert opened((tmp_path / "out").read_bytes(), label=LABEL) == data
        if refused is not None:
            assert len(direct) <= refused + 1

    def test_a_full_disk_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_fd: int, _data: memoryview, _at: int) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "pwrite", full)
        (tmp_path / "in").write_bytes(content(self.SIZE))
        with pytest.raises(Quarantined, match="No space left"):
            seal_file(tmp_path / "in", tmp_path / "out", KEY, LABEL)
        assert names(tmp_path) == ["in"]

    def test_small_files_are_left_to_the_cache(self, tmp_path: Path) -> None:
        with (tmp_path / "out").open("wb") as file:
            LargeFile(file.fileno(), 1000)
            assert not fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & getattr(os, "O_DIRECT", 0)
