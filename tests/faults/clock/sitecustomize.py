"""A clock that can be set wrong: an instance that is started with this directory on its PYTHONPATH adds the seconds in
the file that `CLOCK_OFFSET_FILE` names to the time of day. Its monotonic clock stays as it is, as in a real jump."""

import os
import time

_real, _real_ns = time.time, time.time_ns
_path = os.environ["CLOCK_OFFSET_FILE"]


def _offset_s() -> float:
    with open(_path) as file:
        return float(file.read() or 0)


time.time = lambda: _real() + _offset_s()
time.time_ns = lambda: _real_ns() + round(_offset_s() * 1e9)
