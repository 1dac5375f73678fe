"""How a measurement fails."""

from __future__ import annotations


class PlanError(ValueError):
    """The arguments do not make a measurement: the message names the option and says what would be right."""


class LoadError(Exception):
    """The measurement broke off: the message says what the server did, or did not do."""
