"""The application: found by its name, checked, and described when it fails. Runs in the application's interpreter."""
