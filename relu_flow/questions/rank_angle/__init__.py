"""Rank bias against the teacher's angle."""
