"""What uploads wait for and what that costs, on paper: pure, and the same for the same seed."""
