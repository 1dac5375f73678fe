-- Accounts, their friends, and their conversations.

create table accounts (
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    id text collate "C" primary key check (length(id) <= 30),
    name text not null,
    email text collate "C" not null unique,
    image text,
    provider text not null,
    oauth_id text not null,
    color text not null
);
create index accounts_newest on accounts (created_at, id);

create table conversations (
    room bigint primary key references rooms on delete cascade,
    low text collate "C" references accounts,
    high text collate "C" references accounts,
    image text,
    unique (low, high),
    check (low <= high),
    check ((low is null) = (high is null))
);
comment on table conversations is 'Rooms whose members are accounts, present or not.';
comment on column conversations.low is 'With high: the two of a conversation of two, in order; the same one when it is with oneself. Null in a group.';
create index conversations_high on conversations (high);

create table conversation_members (
    room bigint not null references conversations on delete cascade,
    account text collate "C" not null references accounts,
    primary key (account, room)
);
create index conversation_members_room on conversation_members (room);

create table friendships (
    since timestamptz not null default now(),
    account text collate "C" not null references accounts,
    friend text collate "C" not null references accounts,
    primary key (account, friend)
);
comment on table friendships is 'Each friendship has two rows, one for either of the two.';
create index friendships_friend on friendships (friend);

create table friend_requests (
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    id integer generated always as identity primary key,
    sender text collate "C" not null references accounts,
    receiver text collate "C" not null references accounts,
    status text not null default 'pending' check (status in ('pending', 'accepted', 'declined')),
    check (sender <> receiver)
);
create unique index friend_requests_pending on friend_requests (least(sender, receiver), greatest(sender, receiver))
    where status = 'pending';
create index friend_requests_sender on friend_requests (sender, id);
create index friend_requests_receiver on friend_requests (receiver, id);

create table secrets (
    name text collate "C" primary key,
    value text not null
);
comment on table secrets is 'What a server draws itself where no setting says it, so that all instances have the same.';
