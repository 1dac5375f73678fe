-- Messages are passed on to other services in the order of their ids.

create index messages_id on messages (id);

create table outlet (
    single boolean primary key default true check (single),
    position bigint not null,
    at timestamptz not null default now()
) with (fillfactor = 10);
comment on table outlet is 'Up to which message id everything was passed on to other services; no row: never anything.';
