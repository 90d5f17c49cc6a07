"""A factory's job history: deep paths, inherited models, odd keys and a long migration history."""
