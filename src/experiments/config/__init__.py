"""What a run is configured by: components, their schemas, and the checked configuration."""
