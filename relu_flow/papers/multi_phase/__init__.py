"""Wang, Ma (2023), re-derived: four phases of two clusters."""
