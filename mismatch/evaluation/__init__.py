"""How good scores are, what they mean, and where to cut. numpy only."""
