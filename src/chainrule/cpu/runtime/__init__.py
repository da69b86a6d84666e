"""Runs programs: their memory, their threads, and the measurement of their times."""
