"""Several processes that train one model: who is who, their rows, and FSDP."""
