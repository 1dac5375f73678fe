-- Users who came with a token, passwords of accounts, and the tokens that prolong a login.

create table identities (
    user_id text collate "C" primary key,
    since timestamptz not null default now()
);
comment on table identities is 'Users without an account who came with a token at some time: no guest takes their id.';

create table passwords (
    account text collate "C" primary key references accounts on delete cascade,
    changed_at timestamptz not null default now(),
    hash text not null
);
comment on column passwords.hash is 'Argon2id, with its parameters, as its reference encodes it.';

create table refresh_tokens (
    hash text collate "C" primary key,
    family text collate "C" not null,
    account text collate "C" not null references accounts on delete cascade,
    expires_at timestamptz not null,
    used_at timestamptz
);
comment on table refresh_tokens is 'hash is that of the token, which nobody but its bearer knows; a login and all that follows from it are a family.';
comment on column refresh_tokens.used_at is 'When the next one was given for it; whoever brings it again has stolen it, or was stolen from.';
create index refresh_tokens_family on refresh_tokens (family);
create index refresh_tokens_account on refresh_tokens (account);
create index refresh_tokens_expires_at on refresh_tokens (expires_at);
