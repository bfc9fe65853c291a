"""From a request to a clip: VideoPipeline, one run, batches, races, reconstructions."""
