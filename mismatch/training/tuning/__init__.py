"""Which weights train and at which part of the rate, and LoRA's adapters."""
