"""What callers use: `connect` and the like, `SessionManager`, and what it opens."""
