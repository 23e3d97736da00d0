"""Networks that tell how much each pixel of a view looks like part of a line of text.

Their weights come inside of installed packages; nothing is ever fetched. A network holds no view of the image it was
given, and its session belongs to the process that made it: a process that was forked makes its own.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ...errors import MissingExtra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["GLYPHS", "LINES", "Net", "probability", "require"]

_EXTRA: Final = "ocr"


class Net(NamedTuple):
    """A network, and what it takes.

    Attributes
    ----------
    package, path : str
        The installed package whose folder holds the weights, and where in it.
    channels : int
        How many the view has that it takes.
    stride : int
        Rows and columns must be multiples of it.
    """

    package: str
    path: str
    channels: int
    stride: int


LINES: Final = Net("rapidocr", "models/PP-OCRv6_det_small.onnx", channels=3, stride=32)
"""PP-OCRv6 text detection, small (PaddleOCR, Apache-2.0): the middle of each line, narrower than its letters."""
GLYPHS: Final = Net("dicomshield.finders.text", "glyphs.onnx", channels=6, stride=16)
"""A small network of our own (tools/train_glyph_net.py): the ink of letters, single ones and faint ones too."""


def require() -> None:
    """Raise `MissingExtra` if the extra ``ocr`` is not installed, before anything is decoded."""
    try:
        import cv2  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError:
        raise MissingExtra(_EXTRA) from None
    for net in (LINES, GLYPHS):
        _weights(net)


def probability(net: Net, view: NDArray[np.uint8], threads: int) -> NDArray[np.float32]:
    """Look at a view.

    Parameters
    ----------
    net : Net
    view : ndarray of uint8, shape (rows, columns, channels)
        As `views.local` makes it for lines, and `views.contrasts` for glyphs.
    threads : int
        How many to use at most.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        0 to 1.
    """
    import cv2
    import numpy as np

    rows, columns = view.shape[:2]
    below, right = -rows % net.stride, -columns % net.stride
    whole = cv2.copyMakeBorder(view, 0, below, 0, right, cv2.BORDER_REFLECT_101)
    whole = whole.reshape(rows + below, columns + right, net.channels)
    values = np.ascontiguousarray(whole.transpose(2, 0, 1)[None], np.float32)
    values *= np.float32(2 / 255)
    values -= np.float32(1)
    runs = session(net, threads)
    (answer,) = runs.run(None, {runs.get_inputs()[0].name: values})
    found: NDArray[np.float32] = answer[0, 0, :rows, :columns]
    return found


def session(net: Net, threads: int) -> Any:
    """Return what runs a network in this process.

    Raises
    ------
    MissingExtra
        If the extra ``ocr`` is not installed.
    """
    return _session(net, threads, os.getpid())


@lru_cache(maxsize=8)
def _session(net: Net, threads: int, _process: int) -> Any:
    """Return the session of a process: what was made before a fork is not used after it."""
    import cv2
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    cv2.setNumThreads(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # an arena keeps as much as the largest view ever took
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(_weights(net)), options, providers=["CPUExecutionProvider"])


def _weights(net: Net) -> Path:
    """Find the weights without importing the package, which would load a recogniser nobody asked for."""
    spec = find_spec(net.package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, net.path)
        if path.is_file():
            return path
    raise MissingExtra(_EXTRA)
