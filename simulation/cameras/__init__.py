"""Pictures of made worlds, drawn on the CPU without a screen."""

from .renderer import RENDERERS, CameraRenderer, open_renderer

__all__ = ["RENDERERS", "CameraRenderer", "open_renderer"]
