"""The Generate tab: a clip from an action or from first frames."""
