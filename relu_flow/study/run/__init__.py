"""Running a study: programs, chunks, the store, machines, and what is collected."""
