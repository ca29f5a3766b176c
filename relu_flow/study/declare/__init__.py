"""What a study is: its declaration, and the runs, chunks and records that follow from it."""
