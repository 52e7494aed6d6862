"""The profiler agent for a browser: a page that measures its own device, and onnxruntime-web."""
