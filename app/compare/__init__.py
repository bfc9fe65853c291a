"""The Compare tab: two runs beside each other."""
