"""Sockets on Trio: listener, readiness hub, connections, hand-off to Hypercorn. Knows neither rooms nor contracts."""
