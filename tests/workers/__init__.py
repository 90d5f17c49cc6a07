"""Real workers, beat and broker as processes, against whichever host project the settings name."""
