"""WebSocket, the server's side: RFC 6455 and permessage-deflate (RFC 7692). Pure: no Trio, no sockets.

`handshake` answers the request that opens a connection, `frames` turns bytes into messages and messages into frames,
`deflate` compresses and inflates. Whatever a peer sends, there is a proper answer: a refused handshake is an
`HttpRefusal` that carries one, and a broken stream of frames is the parser's `failure`, with the close code to send.
"""
