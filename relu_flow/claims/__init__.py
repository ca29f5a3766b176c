"""What theorems are made of: claims, their hypotheses and verdicts; no theorem is known here."""
