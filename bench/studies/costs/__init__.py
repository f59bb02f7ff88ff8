"""What methods cost: process time and memory."""
