"""What the reference parsers made of packets; recorded by `vectors/record.mjs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def _revive(found: dict[str, Any]) -> Any:
    return bytes.fromhex(found["$hex"]) if "$hex" in found else found


REFERENCE: dict[str, Any] = json.loads(
    (Path(__file__).parent / "vectors" / "reference.json").read_text(), object_hook=_revive
)
