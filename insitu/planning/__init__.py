"""What a run would do, need and let out, told before it starts."""
