"""How gauges are read: by threads of their own, and which of them counts for an endpoint."""
