"""What a request asks for, looked up before it is acknowledged: `request.py` reads it, `plan.py` makes it a `Plan`."""
