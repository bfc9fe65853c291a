"""The transformer held for decoding: weight formats, packed layers, the plan of a compiled step."""
