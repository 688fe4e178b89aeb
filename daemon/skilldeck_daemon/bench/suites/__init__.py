"""What `skilldeckd bench` measures: each module has `async def measure(model: str, rounds: int) -> list[Measure]`."""
