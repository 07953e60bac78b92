"""`reference`: what stands for a logon session where its secrets must not."""

import pytest
from support.managers import direct, door, settings_for

from veeam_tasks import adopt
from veeam_tasks.simulator import SimulatedServer

pytestmark = pytest.mark.virtual_time


async def test_all_that_share_a_logon_session_have_one_reference() -> None:
    """Whoever adopts the token has it, with or without the session ID."""
    async with SimulatedServer() as server:
        settings = settings_for(server, {})
        async with door(server) as em, door(server) as stranger:
            assert em.token is not None
            async with (
                adopt(em.url, em.token, **settings) as first,
                adopt(em.url, em.token, session_id=em.session_id, **settings) as second,
            ):
                assert em.reference == first.reference == second.reference
            assert em.reference is not None
            assert stranger.reference not in {None, em.reference}


async def test_there_is_one_while_there_is_a_logon_session() -> None:
    """None before the logon and after the log-out; one left open keeps it."""
    async with SimulatedServer() as server:
        em = direct(server)
        assert em.reference is None
        await em.open()
        first = em.reference
        await em.aclose()
        assert em.reference is None
        await em.open()
        assert em.reference not in {None, first}
        reference = em.reference
        await em.aclose(log_out=False)
        assert em.reference == reference


async def test_a_renewal_changes_it() -> None:
    """Another logon session has another reference."""
    async with SimulatedServer() as server, door(server) as em:
        await em.fetch_all()
        before = em.reference
        server.expire_logon_sessions()
        await em.fetch_all()
        assert em.reference not in {None, before}


async def test_it_tells_nothing_of_the_secrets() -> None:
    """Some letters and digits, among them no part of token or ID; not in a `repr`."""
    async with SimulatedServer() as server, door(server) as em:
        assert em.reference is not None
        assert em.reference.isalnum()
        assert len(em.reference) == 24
        for secret in (em.token, em.session_id):
            assert secret is not None
            parts = {secret[at : at + 8] for at in range(len(secret) - 7)}
            assert not any(part in em.reference for part in parts)
