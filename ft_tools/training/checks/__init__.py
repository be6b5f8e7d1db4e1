"""What has to hold before a plan is shown."""
