"""The keyword arguments of a manager: what help() says of them, and their checks."""
