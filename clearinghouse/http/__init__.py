"""ASGI middleware and the uvicorn server: limits of bodies and connections, headers, logs."""
