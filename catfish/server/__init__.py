"""Where sockets, vocabularies, rooms and the store meet."""
