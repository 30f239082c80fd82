"""A profile by call site: its records, and the forms that programs read and people look at."""
