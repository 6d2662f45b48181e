"""Questions that are not ours: asked of servers, and their answers kept within their time."""
