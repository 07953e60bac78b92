"""Fixtures for people who test their own automation."""
