-- Who may do what in a room: whom it admits, roles, invitations, mutes, bans; who has blocked whom, who met whom, reports.

alter table rooms
    add column restricted boolean not null default false,
    add column access text check (access in ('members', 'invited'));
comment on column rooms.restricted is 'Somebody is anything to the room (standings), so that those who come and write are looked up.';
comment on column rooms.access is 'Whom it admits; null: what its kind says.';

comment on column rooms.members_count is 'Users in the room; not kept for rooms of two strangers, where it is counted.';

alter table members add column address text;
comment on column members.address is 'Where the newest of its connections comes from, in the form in which it would be banned.';

alter table strangers add column pause_ms bigint not null default 0;
comment on column strangers.pause_ms is 'For how long whoever is met is not to be met again.';

create table standings (
    room bigint not null references rooms on delete cascade,
    removed bigint not null default 0,
    muted_until timestamptz,
    banned_until timestamptz,
    user_id text collate "C" not null,
    role text check (role in ('moderator', 'member', 'invited')),
    primary key (room, user_id)
) with (fillfactor = 80);
comment on table standings is 'What somebody is to a room, there or not. Written under the lock of the row in rooms.';
comment on column standings.removed is 'When it was last removed, as a number of member_positions: what came before that has ended.';

create table banned_addresses (
    room bigint not null references rooms on delete cascade,
    until timestamptz not null,
    address text collate "C" not null,
    user_id text collate "C" not null,
    primary key (room, address)
);
comment on column banned_addresses.user_id is 'With whom it was banned.';

create table blocks (
    since timestamptz not null default now(),
    user_id text collate "C" not null,
    blocked text collate "C" not null,
    primary key (user_id, blocked),
    check (user_id <> blocked)
);
create index blocks_blocked on blocks (blocked);

create table partners (
    until timestamptz not null,
    user_id text collate "C" not null,
    partner text collate "C" not null,
    primary key (user_id, partner)
) with (fillfactor = 80);
comment on table partners is 'Strangers who met, each of whom is not to meet the other again before that.';
create index partners_partner on partners (partner);

create table reports (
    id bigint generated always as identity primary key,
    room bigint not null references rooms on delete cascade,
    seq bigint,
    at timestamptz not null default now(),
    handled_at timestamptz,
    reporter text collate "C" not null,
    user_id text collate "C",
    reason text not null,
    messages json not null
);
comment on column reports.messages is 'The newest ones as they were then.';
create index reports_room on reports (room);
create index reports_open on reports (id) where handled_at is null;
