"""Base model, mixed features and adapters as one module, as the IDAdapter stage trains it."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from torch import Tensor, nn, where
from transformers import CLIPTextModel, CLIPVisionModel

from .clip import image_features
from .identity_adapter import adapter_parameters, cross_attention_key_value_parameters, predict
from .mixed_features import MixedFeatures
from .quiet_patches import quiet_bias
from .text_encoder import encode_text


class IdAdapterModel(nn.Module):
    """Base model, mixed features and adapters; what of it trains is the paper's choice, or everything."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text_encoder: CLIPTextModel,
        mixed_features: MixedFeatures,
        joint: bool = False,
        image_encoder: CLIPVisionModel | None = None,
    ) -> None:
        """Freezes all but MFF, P_textual, the adapters and the cross-attentions' keys and values.

        Args:
            unet: with identity adapters.
            text_encoder: CLIP's text transformer.
            mixed_features: MFF and P_textual.
            joint: train all of the UNet. The text encoder stays frozen even so (see `make_text_encoder`).
            image_encoder: trains too, beyond the paper; None where it is frozen and runs outside.
        """
        super().__init__()
        self.image_encoder = image_encoder
        self.unet, self.text_encoder, self.mixed_features = unet, text_encoder, mixed_features
        self.requires_grad_(joint)
        text_encoder.requires_grad_(False)
        if image_encoder is not None:
            image_encoder.requires_grad_(True)
        if not joint:
            for parameter in [*adapter_parameters(unet), *cross_attention_key_value_parameters(unet)]:
                parameter.requires_grad_(True)
            mixed_features.requires_grad_(True)
        for parameter in mixed_features.idle_parameters():
            parameter.requires_grad_(False)

    def forward(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        input_ids: Tensor,
        identifier_position: Tensor,
        features: tuple[Tensor, Tensor, Tensor],
        photo_counts: Tensor,
        anonymous: Tensor,
        quiet: Tensor | None = None,
    ) -> Tensor:
        """Predicts the velocity (or noise) of noisy latents of given people.

        Args:
            noisy: z_t [b, c, h, w].
            timesteps: [b].
            input_ids: [b, L].
            identifier_position: [b], -1 where the prompt has no identifier.
            features: f_v [b, K, P, d_v], f_c [b, K, d_v] and f_a [b, K, d_a] of the different references; where the
                image encoder trains, for the first two each picture once, [n, 3, s, s] in [0, 1], and [b, K] which.
            photo_counts: [b, K], how many of the N references each of them is; 0 for none.
            anonymous: [b] bool; rows whose E_r is zero, for guidance.
            quiet: [b, places] bool; whose words tell what is in a place (`models.quiet_patches`); None for nobody.

        Returns:
            [b, c, h, w].
        """
        identity, bias = self.mix(features, photo_counts, anonymous, quiet)
        return self.denoise(noisy, timesteps, input_ids, identifier_position, identity, bias)

    def mix(
        self,
        features: tuple[Tensor, Tensor, Tensor],
        photo_counts: Tensor,
        anonymous: Tensor,
        quiet: Tensor | None = None,
    ) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        """What `denoise` needs of the references: E_r [b, M, d_r] and E_c [b, d_t], and the tokens' bias [b, M]."""
        patch, classes, faces = features
        if self.image_encoder is not None:
            crops, index = patch, classes
            patch, classes = (found[index] for found in image_features(self.image_encoder, crops))
        tokens, embedding = self.mixed_features(patch, classes, faces, photo_counts)
        tokens = where(anonymous[:, None, None], 0, tokens)
        bias = self.mixed_features.token_bias(photo_counts, patch.shape[2])
        if quiet is not None:
            bias = bias + quiet.to(bias) @ quiet_bias(self.mixed_features.face_tokens, *patch.shape[1:3]).to(bias)
        return (tokens, embedding), bias

    def denoise(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        input_ids: Tensor,
        identifier_position: Tensor,
        identity: tuple[Tensor, Tensor],
        token_bias: Tensor | None = None,
    ) -> Tensor:
        """As `forward`, from E_r [b, M, d_r], E_c [b, d_t] and the tokens' bias [b, M], already mixed."""
        identity_tokens, identity_embedding = identity
        hidden = encode_text(self.text_encoder, input_ids, identity_embedding, identifier_position)
        strength = noisy.new_ones(len(noisy))
        return predict(self.unet, noisy, timesteps, hidden, identity_tokens, strength, token_bias)
