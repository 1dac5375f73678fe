"""Several processes on one port: `catfish serve --workers N`.

Theory of operation
-------------------
The *parent* (`parent`) serves nobody. It binds the sockets, owns the private Postgres and Redis, applies migrations,
and starts the *workers* (`child`), each of which is a whole server (`app.serve`) on the sockets that it inherits. What
the parent does when something happens is decided by `supervision`, which is pure; `states` has its tables.

A worker and its parent are joined by a socket pair (`control`). The worker says that it is ready, and from then on that
it is alive; the parent says which workers serve. When the parent is gone, however that came, the worker notices at its
end of the pair, drains, and ends.

All workers accept on the same listening sockets, which stay open in the parent: while one is started again, or
replaced, nobody is refused. They see in shared memory how many connections each of them has (`board`), and whoever has
more than another leaves him the next one.

Engine.IO sessions live in one process, but a client's next request may be accepted by any. So a session id begins with
the *tag* of the process that made it (`tags`), and each worker listens on a Unix socket that is called by its tag, in a
directory that only its own account may enter (`directory`). Whoever gets a request for another one's session hands it
over (`neighbours`):

    first request of a plain connection     the descriptor itself, with the bytes that were read (`handover`)
    WebSocket over TLS                      the keys are in this process: its bytes are passed on, both ways (`relay`)
    later request of a connection that      the request is passed on, and its answer back (`relay`)
    Hypercorn serves here already, or TLS

A tag that nobody listens on belongs to a process that is gone: the client is answered that the session is unknown, as
it would be by a server that was started again.
"""
