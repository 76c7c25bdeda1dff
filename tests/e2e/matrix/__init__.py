"""Every SDK times every row: what real clients make of streams through the proxy."""
