"""From chapters to pages: running them, what is kept of earlier runs, the installation."""
