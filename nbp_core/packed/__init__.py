"""The transformer with weights packed for decoding: formats, packed layers, plans of steps."""
