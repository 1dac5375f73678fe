-- What `catfish instances` shows of every server.

alter table instances
    add column stopped_at timestamptz,
    add column figures json;
comment on column instances.stopped_at is 'When it stopped as it was asked to; null while it runs, and when it died.';
comment on column instances.figures is 'What it said of itself when it last renewed its lease.';
