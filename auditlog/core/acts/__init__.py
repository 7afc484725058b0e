"""What acts come to together: stories, takings, repeats, tasks."""
