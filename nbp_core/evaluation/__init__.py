"""What generated clips are worth: features, distances, a classifier of actions."""
