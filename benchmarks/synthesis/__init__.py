"""Pairs that are made: how fast, how exact, how real."""
