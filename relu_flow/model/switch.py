"""Sides of a hyperplane that a neuron can be on, and the ways it changes them."""

import enum

INACTIVE, ACTIVE, SLIDING = 0, 1, 2


class SwitchKind(enum.IntEnum):
    """How one entry of the activation pattern changes."""

    ACTIVATE = 0
    DEACTIVATE = 1
    SLIDE_ENTER = 2
    SLIDE_EXIT_ACTIVE = 3
    SLIDE_EXIT_INACTIVE = 4


# The side that a pair is on after a switch, by the code of its kind.
SIDE_AFTER = (ACTIVE, INACTIVE, SLIDING, ACTIVE, INACTIVE)
