"""The ODE and its solution: the only folder that imports Diffrax."""
