"""Faster code for a model's functions, judged against the slow one."""
