"""How good scores are, what they mean, and where to cut; and how fast models are. Without torch."""
