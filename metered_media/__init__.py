"""Media sources and sinks on top of `metered_anyio`."""
