"""Commands that measure what the documentation claims, and print it."""
