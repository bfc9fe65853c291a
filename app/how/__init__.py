"""The How it works tab: six steps from a frame to a clip, and any cut of the grid."""
