"""What is watched: due times, polls, decisions, subscriptions. No aiohttp here."""
