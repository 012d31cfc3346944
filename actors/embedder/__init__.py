"""An embedder: pulls leases, keeps requests in flight at every endpoint, turns the answers into parts."""
