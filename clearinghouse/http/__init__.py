"""ASGI middleware and the uvicorn server: body and connection limits, headers, redacted logs."""
