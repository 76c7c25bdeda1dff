"""What the end-to-end tests stand on: processes, the proxy, a reader of event streams."""
