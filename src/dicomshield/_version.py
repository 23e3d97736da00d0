"""The version, and how dicomshield names itself in what it writes."""

from typing import Final

__version__: Final = "0.1.0"
IMPLEMENTATION_CLASS_UID: Final = "2.25.242619343732785744645825965429689514147"
IMPLEMENTATION_VERSION_NAME: Final = f"DCMSHIELD_{__version__}"[:16]
