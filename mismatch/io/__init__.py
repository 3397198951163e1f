"""What every floor stands on: words of messages."""
