"""Within a step: how far it goes, where neurons switch, what that does to the others."""
