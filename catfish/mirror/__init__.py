"""Redis Streams: events for the members on other instances, and messages for other services."""
