"""The page of `vqathinker chat`: `handlers` do what is asked for, `layout` and `texts` show it, `server` serves it."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported, and whenever a page is made

from vqathinker.chat.handlers import Handlers, Limits

__all__ = ["Handlers", "Limits"]
