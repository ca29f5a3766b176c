"""The colours of all figures, the page's too: one meaning, one colour.

Okabe and Ito's, which the colour-blind tell apart; their yellow is too faint on white.
"""

DISTINCT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555")
# Output weights, outputs and labels: warm above zero, cold below.
POSITIVE, NEGATIVE = DISTINCT[1], DISTINCT[0]
NEUTRAL, DARK, FAINT = "#888888", "#222222", "#d8d8d8"
SWITCHES = {
    "activate": DISTINCT[2],
    "deactivate": DISTINCT[3],
    "slide_enter": DISTINCT[5],
    "slide_exit_active": DISTINCT[4],
    "slide_exit_inactive": DISTINCT[6],
}
