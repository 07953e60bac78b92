"""What callers hold: the ways in, `SessionManager`, and what it opens."""
