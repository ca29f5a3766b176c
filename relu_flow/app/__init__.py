"""The `relu-flow` command."""
