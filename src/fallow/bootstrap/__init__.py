"""Settings, wiring and lifecycle: the only place that knows every part."""
