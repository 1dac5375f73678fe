"""What operators ask of all servers that share a database: which instances there are, and which rooms.

The commands work beside the servers, on any machine that reaches the database; nothing here speaks to a server itself.
A room that is closed here is closed in the database, where every instance finds it; see `server.supervisor`.
"""
