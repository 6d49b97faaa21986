"""Student code runs here and nowhere else: the codec, the worker that holds it, the process around the worker."""
