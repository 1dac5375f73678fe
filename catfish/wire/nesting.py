"""How deep arrays and objects stand within each other in data that a peer sent."""

from __future__ import annotations


def is_deeper(value: object, depth_max: int) -> bool:
    """Whether something in `value` stands within more than `depth_max` arrays and objects."""
    level = [value]
    for _ in range(depth_max + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (list, dict))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
