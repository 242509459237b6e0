"""Links over WebSocket, RFC 6455: dialled with `websockets`, accepted by an ASGI server."""
