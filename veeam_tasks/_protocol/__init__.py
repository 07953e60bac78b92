"""Bytes to values and back; pure: no asyncio, no aiohttp."""
