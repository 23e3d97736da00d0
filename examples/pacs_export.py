"""Receive objects from a PACS by C-STORE, and store only what is safe to share.

The handler gives the received bytes to dicomshield and never decodes a data set. A small sender in the same
script plays the PACS. The temporary folder stays, to look at. Needs ``pip install 'dicomshield[pacs]'``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydicom.data import get_testdata_file
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.events import Event

from dicomshield import Deidentifier, Quarantined

_SUCCESS, _CANNOT_UNDERSTAND = 0x0000, 0xC000


def store(event: Event, deidentifier: Deidentifier, released: Path) -> int:
    """Answer one C-STORE request."""
    try:
        # File Meta Information and data set, as they came
        data, report = deidentifier.bytes(event.encoded_dataset())
    except Quarantined as cause:
        print(f"held back: {cause}")
        return _CANNOT_UNDERSTAND
    path = released / report.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    print(f"stored an object of {report.patient}")
    return _SUCCESS


def main() -> None:
    """Start the receiver, send it two files, and stop it."""
    folder = Path(tempfile.mkdtemp(prefix="dicomshield-"))
    receiver, sender = AE(ae_title="SHIELD"), AE(ae_title="PACS")
    for sop_class in (CTImageStorage, MRImageStorage):
        receiver.add_supported_context(sop_class, ExplicitVRLittleEndian)
        sender.add_requested_context(sop_class, ExplicitVRLittleEndian)
    released, deidentifier = folder / "released", Deidentifier(project=folder / "project")
    server = receiver.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store, [deidentifier, released])]
    )
    if server is None:
        raise SystemExit("the receiver did not start")
    assoc = sender.associate("127.0.0.1", server.server_address[1], ae_title="SHIELD")
    for name in ("CT_small.dcm", "MR_small.dcm"):
        status = assoc.send_c_store(str(get_testdata_file(name, download=False)))
        print(f"the sender was told 0x{status.Status:04X}")
    assoc.release()
    server.shutdown()
    print(f"released: {released}")


if __name__ == "__main__":
    main()
