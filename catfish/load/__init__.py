"""The load-testing harness, `catfish load`: raw sockets that keep a server busy, and what that cost it.

It knows the server only over the network, as any client does; what the server's processes spend is read from `/proc`.
See `docs/performance.md`.
"""
