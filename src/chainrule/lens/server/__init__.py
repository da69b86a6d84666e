"""The server of the lens: what its page asks for. It alone imports starlette and uvicorn, and only a command loads it."""
