"""World 1: real processes, ZeroMQ, SQLite, the real clock."""
