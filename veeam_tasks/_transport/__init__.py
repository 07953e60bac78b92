"""The only folder with aiohttp and TLS: a request in; a reply, or our error, out."""
