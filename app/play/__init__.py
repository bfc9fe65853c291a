"""The Play tab: a clip that answers to keys while it is made."""
