"""One logon session and the requests under it. No watching."""
