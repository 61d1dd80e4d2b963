"""The page of `vqathinker chat`: `handlers` does what is asked for, `layout` shows it."""

from vqathinker.chat.handlers import Handlers, Limits

__all__ = ["Handlers", "Limits"]
