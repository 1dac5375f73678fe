"""What the double remembers of instances besides their leases."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from catfish.rooms.ports import Figures, InstanceRecord


class Instances:
    """`leases` says until when each lives; `now` gives milliseconds since the epoch."""

    def __init__(self, now: Callable[[], int], leases: Mapping[str, int]) -> None:
        self._now = now
        self._leases = leases
        self._started: dict[str, int] = {}
        self._stopped: set[str] = set()
        self._figures: dict[str, Figures] = {}

    def renewed(self, instance: str, figures: Figures | None) -> None:
        self._started.setdefault(instance, self._now())
        self._stopped.discard(instance)
        if figures is not None:
            self._figures[instance] = figures

    def stopped(self, instance: str) -> None:
        self._stopped.add(instance)

    def has_stopped(self, instance: str) -> bool:
        """It ended its lease itself."""
        return instance in self._stopped

    def records(self) -> list[InstanceRecord]:
        now = self._now()
        records = []
        for id, started_at in self._started.items():
            left_ms = self._leases[id] - now
            ended = "stopped" if id in self._stopped else "dead"
            records.append(
                InstanceRecord(
                    id=id,
                    state="alive" if left_ms > 0 else ended,  # type: ignore[arg-type]
                    started_at=started_at,
                    lease_left_ms=left_ms,
                    figures=self._figures.get(id),
                )
            )
        return records
