"""The loop: state, iteration, milestones, and what is made of them at the end."""
