"""The application: jobs, their stages, and the dashboard over them."""
