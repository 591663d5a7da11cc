"""What a person looks at: pictures, curves, the report."""
