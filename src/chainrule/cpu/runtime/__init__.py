"""What runs: programs, their memory and threads, and what is measured of them."""
