-- Socket.IO sessions that their clients may come back to (connection state recovery).

create table sessions (
    secret text collate "C" primary key,
    saved_at timestamptz not null default now(),
    ended_at timestamptz,
    instance_id text collate "C" not null,
    record json not null
) with (fillfactor = 80);
comment on table sessions is 'secret is the hash of what the client recovers its session by; record is what the session was, as the server wrote it.';
comment on column sessions.ended_at is 'When the connection ended; null while it lives, and when its instance died.';
create index sessions_instance on sessions (instance_id) where ended_at is null;
create index sessions_saved_at on sessions (saved_at);
