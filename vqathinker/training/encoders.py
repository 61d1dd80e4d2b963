"""What the vision tower and the low-level encoder take of a run: tokens, bytes and operations of their passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vqathinker.policy import VQAThinkerConfig

if TYPE_CHECKING:
    from vqathinker.training.budget import Shape


@dataclass(frozen=True)
class Encoder:
    """A ViT that sees images.

    Attributes:
        layers: Number of layers.
        width: Of a token.
        mlp: Width of the MLP.
        image_size: Side of an image in pixels.
        patch_size: Side of what becomes a token.
        images: Of a key frame: 1, or the patches that are cut from it.
        kept: Tensors of its width that a layer keeps for its backward, beside two of the MLP's.
        frozen: Whether it runs for the rollouts only.
    """

    layers: int
    width: int
    mlp: int
    image_size: int
    patch_size: int
    images: int
    kept: int
    frozen: bool

    @property
    def patches(self) -> int:
        """Of an image, without the class token."""
        return (self.image_size // self.patch_size) ** 2

    def tokens(self, frames: int) -> int:
        """Of all images of so many key frames, one class token for each."""
        return frames * self.images * (self.patches + 1)

    def pixels(self, frames: int) -> int:
        """Numbers in them."""
        return frames * self.images * 3 * self.image_size**2

    def layer_numbers(self, frames: int) -> int:
        """That a layer keeps for its backward."""
        return self.tokens(frames) * (self.kept * self.width + 2 * self.mlp)

    def outside_numbers(self, frames: int) -> int:
        """That are kept before the first layer and behind the last."""
        return 2 * self.tokens(frames) * self.width + self.pixels(frames)

    def pass_bytes(self, frames: int, number: int) -> int:
        """Peak of a pass without gradients: four copies of the pixels in float32, or one with the images' bytes, two
        tensors of the MLP and five of its width, at `number` bytes each."""
        pixels = self.pixels(frames)
        return max(16 * pixels, 5 * pixels + self.tokens(frames) * number * (5 * self.width + 2 * self.mlp))

    @property
    def flops(self) -> tuple[int, int]:
        """Of a key frame: of embedding its patches, and of the layers."""
        tokens = self.patches + 1
        layer = 2 * tokens * (4 * self.width**2 + 2 * self.width * self.mlp) + 4 * self.width * tokens**2
        embedding = 2 * self.patches * 3 * self.patch_size**2 * self.width
        return self.images * embedding, self.images * self.layers * layer


def encoders_of(config: VQAThinkerConfig, frozen_vision: bool = False, frozen_low: bool = False) -> list[Encoder]:
    """The vision tower, and the low-level encoder where the policy has one.

    A layer of the tower keeps ten tensors of its width: inputs of both norms and their outputs, queries, keys and
    values, the output of attention, and what its two scales multiply; that of the low-level encoder has no scales.
    """
    vision, low = config.vision_config, config.low_config
    size, step = vision.image_size[0], vision.patch_size[0]
    widths = (vision.num_hidden_layers, vision.hidden_size, vision.intermediate_size)
    found = [Encoder(*widths, size, step, 1, 10, frozen_vision)]
    if config.low_tokens:
        widths = (low.num_hidden_layers, low.hidden_size, low.intermediate_size)
        found.append(Encoder(*widths, low.image_size, low.patch_size, config.low_patches, 8, frozen_low))
    return found


def trained_encoders(config: VQAThinkerConfig, shape: Shape) -> list[Encoder]:
    """Those that the loss goes through."""
    found = encoders_of(config, shape.frozen_vision, shape.frozen_low)
    return [encoder for encoder in found if not encoder.frozen]
