"""Tests of the solution of the ODE."""
