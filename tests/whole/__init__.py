"""The demo, the site and the wheel, each as a whole."""
