-- Presence of a user in all rooms, and answers that a client may ask for again.

create index members_user on members (user_id);

create table answers (
    key text collate "C" primary key,
    fingerprint text collate "C" not null,
    at timestamptz not null default now(),
    status integer,
    kind text,
    body bytea
) with (fillfactor = 80);
comment on table answers is 'To POST requests with an idempotency key; key is a hash of it and of who sent it where.';
comment on column answers.fingerprint is 'Hash of the request''s body: another one under the same key is a mistake.';
comment on column answers.status is 'Null while the request is being answered.';
create index answers_at on answers (at);
