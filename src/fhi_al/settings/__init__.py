"""The users' input files: typed, validated, and read without any heavy import."""
