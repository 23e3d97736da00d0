"""The examples run as they are, and the policies of the documentation are accepted or refused as it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from factories import ROOT

from dicomshield import Option, PolicyError, Profile
from dicomshield.policy import _KEYS, _OVERRIDES

_PLANTED = (b"thornquist", b"marit", b"55120983", b"abernethy", b"77430126")
_EXPECTED = {
    "one_file": (1, ["PatientName       Thornquist^Marit ", "codes claimed: 113100, 113107", "released: "]),
    "folder": (3, ["3 released, 3 held back", "  2 BURNED_IN: ", "  1 NOT_DICOM: "]),
    "dataset_in_a_pipeline": (0, ["left out: BURNED_IN", "volume (3, 128, 128) of 1 patient and 1 series"]),
    "pacs_export": (1, ["told 0x0000", "held back: BURNED_IN", "told 0xC000", "stored an object of P"]),
    "policy_file": (1, ["age 093Y became 090Y", "kept: False", "113107, 113108", "mean Manufacturer"]),
    "mask_pixels": (
        1,
        ["masked by Philips, 800 columns, 1 of 1 frames; codes claimed: 113100, 113101", "pixels changed"],
    ),
    "hsm": (0, ["the module opened the box: True"]),
    "curated_mapping": (1, ["released TRIAL-001", "quarantined PATIENT", "patient-map.csv: 1 lines"]),
}
"""Of each example: how many objects it releases, and what it must say."""


def _run(example: Path, temporary: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=temporary,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_every_example_is_tested() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(_EXPECTED)


@pytest.mark.parametrize("name", _EXPECTED)
def test_example_runs_and_releases_clean_objects(name: str, tmp_path: Path) -> None:
    if name == "pacs_export":
        pytest.importorskip("pynetdicom")
    if name == "hsm":
        pytest.importorskip("pkcs11")
        if shutil.which("softhsm2-util") is None:
            pytest.skip("softhsm2-util is not installed (Debian: softhsm2)")
    count, lines = _EXPECTED[name]
    said = _run(ROOT / "examples" / f"{name}.py", tmp_path)
    for line in lines:
        assert line in said
    released = list(tmp_path.glob("*/released/*/*/*/*.dcm"))
    assert len(released) == count
    for path in released:
        assert pydicom.dcmread(path).PatientIdentityRemoved == "YES"
        content = path.read_bytes().lower()
        assert not any(token in content or token in str(path).lower().encode() for token in _PLANTED)


def test_examples_stay_short() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        assert len(path.read_text("utf-8").splitlines()) <= 65, path.name


def _policies(kind: str) -> list[str]:
    text = (ROOT / "docs" / "policy.md").read_text("utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("policy", _policies("toml"))
def test_policy_of_the_documentation_is_accepted(policy: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(policy, "utf-8")
    assert Profile.from_toml(path) != Profile.basic()


@pytest.mark.parametrize("policy", _policies("toml refused"))
def test_policy_of_the_documentation_is_refused(policy: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(policy, "utf-8")
    # the block says in a comment what the message begins with
    message = policy.splitlines()[0].removeprefix("# ")
    with pytest.raises(PolicyError, match=re.escape(message)):
        Profile.from_toml(path)


def test_every_key_and_option_is_documented() -> None:
    text = (ROOT / "docs" / "policy.md").read_text("utf-8")
    said = "\n".join(_policies("toml"))
    for key in _KEYS:
        assert re.search(rf"^\[*{key}\b", said, re.MULTILINE), key
    for word in (*(option.name for option in Option), *_OVERRIDES):
        assert f"`{word}`" in text or f'`"{word}"`' in text, word
