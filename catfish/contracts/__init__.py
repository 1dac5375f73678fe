"""Event vocabularies: each translates its clients' events into commands, and what happens in rooms into its events.

Pure: a vocabulary sees a `Participant` and events, never a socket or a task.
"""
