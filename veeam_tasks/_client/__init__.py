"""The face: the ways in, `SessionManager`, and what it opens."""
