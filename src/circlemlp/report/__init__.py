"""From results to the report: statistics, judgements, pictures, words and pages."""
