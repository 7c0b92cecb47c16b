"""Elementary functions of vectors, each with its largest error and valid range."""
