"""Feed mutated DICOM objects to dicomshield and look for anything but a release without the patient or a quarantine.

::

    python tools/fuzz.py --seconds 180 --seed 1 --corpus DIR

Every execution has its own random numbers, drawn from the seed and its number, so a failure is repeated with
``--seed SEED --first NUMBER --count 1`` and the same corpus. Exit status: 0 nothing found, 1 something found.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import RLELossless

from dicomshield import Deidentifier, Option, Profile, Quarantined

TESTS = Path(__file__).resolve().parent.parent / "tests"
LIMIT: Final = 5.0
"""Seconds that one object may take."""
MEMORY: Final = 6 << 30
LARGEST: Final = 200_000
DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
LENGTHS: Final = (0, 1, 2, 7, 8, 0xFE, 0xFF, 0x7FFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
CHUNKS: Final = (
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\0\0\0\0", b"\xfe\xff\x0d\xe0\0\0\0\0",
    b"\xfe\xff\xdd\xe0\0\0\0\0", b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff", b"\x08\x00\x40\x11UN\0\0\xff\xff\xff\xff",
    b"\x08\x00\x18\x22SQ\0\0\x08\0\0\0\xfe\xff\x00\xe0\0\0\0\0", bytes(16), b"\xff" * 8,
)  # fmt: skip
VRS: Final = tuple(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM".split()
    + b"UC UI UL UN UR US".split()
)


class Base(NamedTuple):
    """A file that mutants are made of."""

    name: str
    data: bytes


class SlowError(BaseException):
    """An object took too long; no ``except Exception`` on the way may swallow that."""


@dataclass
class Findings:
    """What a run came to; ``failures`` is what must be empty."""

    executions: int = 0
    releases: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    relabelled: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)
    failures: list[str] = field(default_factory=list)


def _factories() -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the planted tokens and the identity they belong to, which the tests use too."""
    if str(TESTS) not in sys.path:
        sys.path.append(str(TESTS))
    import factories

    identity = {
        "PatientName": factories.NAME, "PatientID": factories.PATIENT_ID, "PatientBirthDate": factories.BORN,
        "ReferringPhysicianName": factories.PHYSICIAN, "InstitutionName": factories.HOSPITAL,
        "AccessionNumber": "ACC5550199",
    }  # fmt: skip
    return factories.TOKENS, identity


def built() -> list[Base]:
    """Build small objects of every kind of encoding."""
    _factories()
    import factories

    inner = Dataset()
    inner.PatientName, inner.OperatorsName, inner.CodeMeaning = factories.NAME, factories.PHYSICIAN, "chest"
    rich = factories.nested(factories.ct(2), inner, 3)
    rich.RequestAttributesSequence = Items([inner, inner])
    block = rich.private_block(0x0099, "ACME NOTES 1.0", create=True)
    block.add_new(1, "LO", factories.NAME)
    bases = [Base(f"ct-{syntax}", factories.encoded(rich, syntax)) for syntax in factories.ENCODINGS]
    report = factories.ct(3, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR")
    del report[0x00280000:0x7FE10000]
    text = Dataset()
    text.RelationshipType, text.ValueType, text.TextValue = "CONTAINS", "TEXT", f"seen by {factories.PHYSICIAN}"
    deeper = Dataset()
    deeper.RelationshipType, deeper.ValueType, deeper.ContentSequence = "CONTAINS", "CONTAINER", Items([text])
    report.ValueType, report.ContentSequence = "CONTAINER", Items([deeper, text])
    bases.append(Base("sr", factories.encoded(report)))
    frames = factories.ct(4, SOPClassUID="1.2.840.10008.5.1.4.1.1.20", Modality="NM", NumberOfFrames=3)
    frames.PixelData = frames.PixelData * 3
    packed = pydicom.dcmread(BytesIO(factories.encoded(frames)))
    packed.compress(RLELossless, generate_instance_uid=False)
    out = BytesIO()
    packed.save_as(out)
    bases.append(Base("rle", out.getvalue()))
    return bases


def planted(data: bytes) -> bytes | None:
    """Give a real file the planted identity, where pydicom can read and write it."""
    _, identity = _factories()
    out = BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(BytesIO(data), force=True)
            for keyword, value in identity.items():
                setattr(dataset, keyword, value)
            dataset.PatientComments = f"{identity['PatientName']} {identity['PatientID']}"
            dataset.save_as(out)
    except Exception:
        return None
    return out.getvalue()


def corpus(folder: Path) -> Iterator[Base]:
    """Yield the small DICOM files under a folder, as they are and with the planted identity."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and 132 < path.stat().st_size < LARGEST:
            data = path.read_bytes()
            if data[128:132] == b"DICM" or path.suffix == ".dcm":
                name = str(path.relative_to(folder))
                yield Base(name, data)
                if (with_identity := planted(data)) is not None:
                    yield Base(f"{name} (planted)", with_identity)


def _place(rng: random.Random, data: bytearray) -> int:
    """Choose an offset, mostly in the header."""
    first = min(132, len(data) - 1)
    last = len(data) - 1
    if rng.random() < 0.7:
        last = min(last, first + 4000)
    return rng.randint(first if rng.random() < 0.95 else 0, last) & ~1


def _one(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """Make one mutation."""
    if len(data) < 4:
        return data + bytearray(other[:400])
    at = _place(rng, data)
    size = rng.choice((2, 4, 8, 16, 64, 300, 2000))
    kind = rng.randrange(10)
    if kind == 0:
        for _ in range(rng.randint(1, 8)):
            bit = rng.randrange(8)
            data[min(_place(rng, data) + rng.randrange(2), len(data) - 1)] ^= 1 << bit
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        return data[:at] + other[rng.randrange(len(other)) & ~1 :]
    elif kind == 3:
        heads = [match.start() for match in re.finditer(rb"[A-Z]{2}", bytes(data[at : at + 400]))]
        place = at + (rng.choice(heads) if heads else 0)
        long = data[place + 2 : place + 4] == b"\0\0"
        width, place = (4, place + 4) if long or not heads else (2, place + 2)
        value = rng.choice((*LENGTHS, len(data), rng.randrange(1 << 16)))
        data[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    elif kind == 4:
        data[at:at] = data[at : at + size] * rng.choice((1, 1, 2, 20))
    elif kind == 5:
        del data[at : at + size]
    elif kind == 6:
        data[at:at] = rng.choice(CHUNKS) * rng.choice((1, 1, 1, 3, 100))
    elif kind == 7:
        match = re.compile(rb"[A-Z]{2}").search(data, at)
        if match:
            data[match.start() : match.end()] = rng.choice(VRS)
    elif kind == 8:
        source = _place(rng, data)
        data[at : at + size] = data[source : source + size]
    else:
        start = rng.randrange(len(other)) & ~1
        data[at:at] = other[start : start + size]
    return data


def mutant(rng: random.Random, bases: Sequence[Base]) -> tuple[str, bytes]:
    """Choose a file and mutate it; a deflated one is mutated inside."""
    name, data = rng.choice(bases)
    other = rng.choice(bases).data
    body, head = bytearray(data), b""
    if DEFLATED in data[:1000] and rng.random() < 0.8:
        start = 144 + int.from_bytes(data[140:144], "little")
        try:
            body, head = bytearray(zlib.decompress(data[start:], -15)), data[:start]
        except zlib.error:
            head = b""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        body = _one(rng, body, other)
    if head:
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        return name, head + packer.compress(bytes(body)) + packer.flush()
    return name, bytes(body)


def _inflated(data: bytes) -> bytes:
    """Return what a search must see of an output, in lower case."""
    if DEFLATED in data[:400]:
        start = 144 + int.from_bytes(data[140:144], "little")
        with contextlib.suppress(zlib.error):
            data = data[:start] + zlib.decompressobj(-15).decompress(data[start:])
    return data.lower()


def _holders(dataset: Dataset, token: str) -> set[int]:
    """Return the tags of the elements whose encoded value holds a token, those in sequences too."""
    found = set()
    for tag in list(dataset.keys()):
        try:
            value = dataset[tag].value
        except Exception:
            # a value that its VR does not allow
            value = getattr(dataset.get_item(tag), "value", b"")
        if isinstance(value, Items):
            for item in value:
                found |= _holders(item, token)
        else:
            text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
            if token in text.lower().replace("\0", ""):
                found.add(int(tag))
    return found


def _came_along(original: bytes, hay: bytes, token: str) -> bool:
    """Tell whether a token stands in an output behind the same bytes as in the original, header included."""
    before = _inflated(original)
    return all(hay[max(0, found.start() - 8) : found.end()] in before for found in re.finditer(token.encode(), hay))


def leak(original: bytes, output: bytes) -> tuple[str, str] | None:
    """Look for planted tokens in an output: ``("leak" or "relabelled", where)``.

    A mutant may call the name of the patient a scanning sequence, and tell of it nowhere else. No reader of tags
    can know better; that is counted apart. What stands in an attribute of the patient too must be found.
    """
    tokens, identity = _factories()
    hay = _inflated(output)
    for token in tokens:
        if token.encode() not in hay:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                holders = _holders(pydicom.dcmread(BytesIO(output)), token)
                if holders and holders <= PIXELS:
                    continue
                before = pydicom.dcmread(BytesIO(original), force=True)
                same = _holders(before, token)
                told = not same.isdisjoint(pydicom.datadict.tag_for_keyword(keyword) for keyword in identity)
            except Exception as error:
                return "leak", f"{token[:4]}... where pydicom cannot read ({type(error).__name__})"
        places = ", ".join(f"{tag:08X}" for tag in sorted(holders))
        if not told and ((holders and holders <= same) or _came_along(original, hay, token)):
            return "relabelled", places or "read as numbers, or repeated"
        return "leak", f"{token[:4]}... in {places or 'no element'}; told elsewhere: {told}"
    return None


def _alarm(_signum: int, _frame: FrameType | None) -> None:
    raise SlowError


def execute(deidentifier: Deidentifier, data: bytes, found: Findings, label: str) -> bool:
    """De-identify one object and note what came of it; return whether that was right."""
    began = time.monotonic()
    problem = ""
    previous = signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        output = deidentifier.bytes(data).data
        signal.setitimer(signal.ITIMER_REAL, 0)
        found.releases += 1
        told = leak(data, output)
        if told and told[0] == "relabelled":
            found.relabelled[told[1]] += 1
        elif told:
            problem = f"leak: {told[1]}"
    except Quarantined as cause:
        found.reasons[cause.reason.name] += 1
    except SlowError:
        problem = f"took more than {LIMIT} s"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        problem = f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    found.slowest = max(found.slowest, (time.monotonic() - began, found.executions))
    found.executions += 1
    if problem:
        found.failures.append(f"{label}: {problem}")
    return not problem


def run(
    bases: Sequence[Base],
    project: Path,
    *,
    seed: int,
    first: int = 0,
    count: int | None = None,
    seconds: float | None = None,
    save: Path | None = None,
    most: int = 20,
) -> Findings:
    """Execute mutants until the count, the time or the number of failures is reached."""
    found = Findings()
    shields = [
        Deidentifier(Profile.basic(trust_pixels=True), project=project),
        Deidentifier(
            Profile.basic(Option.RETAIN_MODIFIED_DATES, Option.RETAIN_SAFE_PRIVATE, trust_pixels=True), project=project
        ),
    ]
    began, number = time.monotonic(), first
    while (count is None or number < first + count) and (seconds is None or time.monotonic() - began < seconds):
        rng = random.Random(f"{seed}/{number}")  # noqa: S311
        name, data = mutant(rng, bases)
        label = f"--seed {seed} --first {number} --count 1 ({name})"
        if not execute(shields[number & 1], data, found, label):
            if save is not None:
                (save / f"{hashlib.sha256(data).hexdigest()[:16]}.dcm").write_bytes(data)
            if len(found.failures) >= most:
                break
        number += 1
    return found


def main() -> int:
    """Run the fuzzer and print what it came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="folder of DICOM files; small built objects are always used")
    parser.add_argument("--first", type=int, default=0, help="number of the first execution")
    parser.add_argument("--count", type=int, help="number of executions; else as many as the time allows")
    parser.add_argument("--save", type=Path, help="folder that gets the mutants that fail")
    parser.add_argument("--most", type=int, default=20, help="stop after so many failures")
    options = parser.parse_args()
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    bases = built() + (list(corpus(options.corpus)) if options.corpus else [])
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        found = run(
            bases, Path(folder), seed=options.seed, first=options.first, count=options.count,
            seconds=None if options.count else options.seconds, save=options.save, most=options.most,
        )  # fmt: skip
    print(f"{len(bases)} files, {found.executions} executions, {found.releases} released")
    print(f"slowest: {found.slowest[0]:.2f} s (execution {options.first + found.slowest[1]})")
    print(f"largest process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")
    for reason, number in found.reasons.most_common():
        print(f"  {number:>8}  {reason}")
    print(f"{found.relabelled.total()} told of the patient only in attributes that are nobody's:")
    for places, number in found.relabelled.most_common(10):
        print(f"  {number:>8}  {places}")
    for failure in found.failures:
        print(f"FAILED {failure}")
    return 1 if found.failures else 0


if __name__ == "__main__":
    sys.exit(main())
