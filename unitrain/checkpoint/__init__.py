"""The portable checkpoint: one file that every backend resumes to the same bits, and that plain Lightning reads."""
