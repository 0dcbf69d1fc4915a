"""What is kept on disk: records, the data file, results, and how files are written, read and locked."""
