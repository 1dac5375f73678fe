"""HTTP beside the WebSockets: a Starlette application, run by Hypercorn on the same port."""
