"""The vector language: 64-byte vectors, memory, lanes, running sums, transposes."""
