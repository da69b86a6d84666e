"""What is wrong with a training, and why: before its first step, while it runs, and afterwards."""
