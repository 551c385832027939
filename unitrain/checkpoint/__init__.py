"""The portable checkpoint: one file that every backend resumes exactly and plain Lightning reads."""
