"""Agents that move step by step, beside networks that say it at once, and programs."""
