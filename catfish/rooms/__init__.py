"""The domain: rooms, members, matching, presence. Pure: no tasks, no sockets, no SQL."""
