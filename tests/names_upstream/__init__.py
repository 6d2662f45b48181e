"""Questions that are passed on: servers, their answers, and what a hostile one can do."""
