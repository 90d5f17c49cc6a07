"""What the package promises a host, tested against whichever host project the settings name."""
